"""Retry page: the failed and parked customers of a list, counted, then marked due."""

from starlette.responses import Response

from ml_connector.console.pages.customer_list import filter_of
from ml_connector.console.pages.runs import approval_first, begin_run
from ml_connector.console.queries import customer_list
from ml_connector.console.retrying import count_retryable, mark_due
from ml_connector.console.visit import PageRequest
from ml_connector.display import counted
from ml_connector.model import RunContext
from ml_connector.scope import Scope


def ask(visit: PageRequest) -> Response:
    """Show how many customers of a filter would be retried, and why they failed."""
    wanted, sync = filter_of(visit, visit.query), visit.sync.name
    with visit.services.database.begin() as connection:
        total = customer_list.count(connection, sync=sync, wanted=wanted)
        reasons = count_retryable(connection, sync=sync, wanted=wanted)
    return visit.page(
        "retry.html",
        filter=wanted,
        total=total,
        reasons=reasons,
        number=sum(each.customers for each in reasons),
        first=approval_first(visit),
    )


def retry_listed(visit: PageRequest) -> Response:
    """Mark the failed and parked customers of a filter due, and start a run."""
    if waits := approval_first(visit):
        return visit.page("notice.html", status=409, ok=False, said=waits)
    scope = Scope(
        sync=visit.sync,
        database=visit.services.database,
        vault=visit.services.vault,
        run=RunContext(actor=visit.caller.name),
        clock=visit.services.clock,
    )
    marked = mark_due(scope, wanted=filter_of(visit, visit.form))
    if not marked:
        said = "None of these customers is failed or parked now."
        return visit.page("notice.html", status=404, ok=False, said=said)
    due = f"{counted(marked, 'customer is', 'customers are')} due again."
    started = begin_run(visit)
    then = started.said if started.ok else f"The next run takes them. {started.said}"
    return visit.page("notice.html", ok=True, said=f"{due} {then}", link=started.link)
