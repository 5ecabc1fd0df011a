"""Customer list page: filter, sort, page and download the customers of a sync."""

from collections.abc import Mapping
from typing import Any

from starlette.responses import Response, StreamingResponse

from ml_connector.console.access import HEADERS
from ml_connector.console.customer_rows import SHEET, iter_cells
from ml_connector.console.exports import note_export
from ml_connector.console.queries import customer_list
from ml_connector.console.queries.customer_list import FILTERS, CustomerFilter, read_filter
from ml_connector.console.sheet import iter_csv
from ml_connector.console.visit import PageRequest
from ml_connector.rules.tags import tag_key
from ml_connector.sync import targets

MOST_TOKEN = 200
"""A token of a page has at most this many characters."""


def list_customers(visit: PageRequest) -> Response:
    """Show a page of the list. The filter is in the URL and contains no personal data."""
    return visit.page(
        "customers.html", wanted="", found=None, scan=None, contact=None, **listing(visit)
    )


def listing(visit: PageRequest) -> dict[str, Any]:
    """Return a page of the list that the URL names, with the frame around it."""
    wanted = filter_of(visit, visit.query)
    sort = visit.query.get("sort", "")
    sort = sort if sort.removeprefix("-") in customer_list.SORTS else "id"
    after = visit.query.get("after", "")[:MOST_TOKEN]
    with visit.services.database.begin() as connection:
        page = customer_list.page(
            connection,
            sync=visit.sync.name,
            wanted=wanted,
            vault=visit.services.vault,
            sort=sort,
            after=after,
        )
    return {**frame(visit, wanted), "page": page, "sort": sort, "first": not after}


def frame(visit: PageRequest, wanted: CustomerFilter) -> dict[str, Any]:
    """Return what the page shows around a list: the filter and its choices."""
    with visit.services.database.begin() as connection:
        fields = targets.field_names(visit.sync, connection)
    return {
        "filter": wanted,
        "given": wanted.given,
        "reasons": customer_list.REASONS,
        "fields": {"any": "Any field", **fields},
        "tag_name": _tag_name(visit, wanted.given.get("tag", "")),
    }


def filter_of(visit: PageRequest, given: Mapping[str, str]) -> CustomerFilter:
    """Return the filter in a URL or form; what is no valid value is left out."""
    wanted, _ = read_filter(given, zone=visit.zone)
    return wanted


def _tag_name(visit: PageRequest, key: str) -> str:
    """Return the name of a tag by its key, as far as the settings name it."""
    names = {tag_key(tag, visit.services.vault).hex(): tag for tag in visit.sync.tags.static}
    return names.get(key, "the tag chosen" if key else "")


def refine(visit: PageRequest) -> Response:
    """Redirect to the list of a filter. It is a POST: the name of a tag may identify a person."""
    given = {name: visit.form[name] for name in FILTERS if name in visit.form}
    if name := visit.form.get("tag_name", "").strip()[: customer_list.LONGEST]:
        given["tag"] = tag_key(name, visit.services.vault).hex()
    sort = visit.form.get("sort", "")
    return visit.elsewhere(f"/customers?{filter_of(visit, given).query(sort=sort)}")


def download_customers(visit: PageRequest) -> Response:
    """Stream the customers of a filter as CSV, with names, addresses and phone numbers."""
    wanted, services = filter_of(visit, visit.query), visit.services
    with services.database.begin() as connection:
        number = customer_list.count(connection, sync=visit.sync.name, wanted=wanted)
        note_export(
            connection,
            sync=visit.sync.name,
            customers=number,
            wanted=wanted.given,
            actor=visit.caller.name,
            cause="console",
            vault=services.vault,
        )
    entries = customer_list.iter_customers(
        services.database.begin, sync=visit.sync.name, wanted=wanted, vault=services.vault
    )
    name = f"customers-{visit.sync.name}-{visit.now:%Y%m%d-%H%M}.csv"
    return StreamingResponse(
        iter_csv(SHEET, iter_cells(entries, visit.sync)),
        media_type="text/csv; charset=utf-8",
        headers={**HEADERS, "content-disposition": f'attachment; filename="{name}"'},
    )
