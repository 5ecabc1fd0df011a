"""Run a pipeline and print what it took: ``python -I bench/measured.py CMD... [--pipe CMD...]``.

Standard library only: a child's peak memory counts that of the process it was forked from, so
what forks has to be small. Prints one JSON line: wall seconds, CPU seconds of all processes and
those they waited for, peak megabytes of the largest one. Output of the commands goes to stderr.
"""

import json
import os
import subprocess
import sys
import time
from itertools import groupby

UNIT = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, in bytes: getrusage(2)


def main(arguments: list[str]) -> int:
    """Run the commands, each one's output the next one's input; return 0, or 1 if one failed."""
    parts = groupby(arguments, lambda word: word == "--pipe")
    commands = [list(words) for pipe, words in parts if not pipe]
    begun = time.perf_counter()
    running: list[subprocess.Popen[bytes]] = []
    for command in commands:
        last = command is commands[-1]
        source = running[-1].stdout if running else subprocess.DEVNULL
        target = sys.stderr if last else subprocess.PIPE
        running.append(subprocess.Popen(command, stdin=source, stdout=target))
        if running[1:]:
            running[-2].stdout.close()  # so that the writer gets SIGPIPE if its reader ends
    ended = [os.wait4(process.pid, 0) for process in running]
    usages = [usage for _, _, usage in ended]
    figures = {
        "seconds": round(time.perf_counter() - begun, 2),
        "cpu": round(sum(usage.ru_utime + usage.ru_stime for usage in usages), 2),
        "peak_mb": round(max(usage.ru_maxrss for usage in usages) * UNIT / 2**20),
        "exits": [os.waitstatus_to_exitcode(status) for _, status, _ in ended],
    }
    print(json.dumps(figures))  # noqa: T201 - what it is for
    return int(any(figures["exits"]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
