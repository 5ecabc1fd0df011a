"""One comparison of the audience with the staged customers: prints its figures as a JSON line.

python -m bench.drift_once DATABASE_URL QUICKBOOKS_URL MAILCHIMP_URL RUN_ID
"""

import json
import logging
import resource
import sys
import time
from collections import Counter
from contextlib import closing

import structlog

from bench.daily_sync import Setting, peak_kib
from ml_connector.sync.drift import iter_drift


def main(setting: Setting) -> None:
    """Compare and print what it took."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    scope, begun = setting.scope(), time.perf_counter()
    with closing(scope.database):
        found = Counter(each.what for each in iter_drift(scope, setting.mailchimp(scope)))
    seconds = time.perf_counter() - begun
    usage = resource.getrusage(resource.RUSAGE_SELF)
    figures = {
        "seconds": round(seconds, 2),
        "found": dict(found),
        "calls": dict(scope.calls),
        "cpu": round(usage.ru_utime + usage.ru_stime, 2),
        "peak_mb": round(peak_kib() / 1024),
    }
    sys.stdout.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main(Setting(*sys.argv[1:]))
