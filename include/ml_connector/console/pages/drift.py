"""Drift page: what differs between QuickBooks and Mailchimp, read from the audience on request."""

from collections import Counter

from starlette.responses import Response, StreamingResponse

from ml_connector.console.access import HEADERS
from ml_connector.console.sheet import iter_csv
from ml_connector.console.visit import PageRequest
from ml_connector.store import observations
from ml_connector.sync.drift import HEADER, Drift

SOME = 200
"""Differences that the page shows; the CSV file has all."""


def drift(visit: PageRequest) -> Response:
    """Show how many contacts differed when last seen, and offer to read the audience."""
    with visit.services.database.begin() as connection:
        differing = observations.count_differing(connection, sync=visit.sync.name)
    return visit.page("drift.html", differing=differing)


def read(visit: PageRequest) -> Response:
    """Read the audience and show what differs. It is a POST, so that no link starts it."""
    counts: Counter[str] = Counter()
    rows: list[Drift] = []
    for each in visit.services.outside.drift(visit.sync):
        counts[each.what] += 1
        if len(rows) < SOME:
            rows.append(each)
    return visit.page("drift_found.html", rows=rows, counts=counts, some=SOME)


def download_drift(visit: PageRequest) -> Response:
    """Stream every difference as a CSV file."""
    found = visit.services.outside.drift(visit.sync)
    name = f"drift-{visit.sync.name}.csv"
    return StreamingResponse(
        iter_csv(HEADER, (each.cells for each in found)),
        media_type="text/csv",
        headers={**HEADERS, "content-disposition": f'attachment; filename="{name}"'},
    )
