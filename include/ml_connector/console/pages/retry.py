"""Retry page: the failed and parked customers of a list, counted, then marked due."""

from collections.abc import Mapping

from starlette.responses import Response

from ml_connector.console.pages.runs import begin_run, first_to_approve, run_id_under_way
from ml_connector.console.queries import customer_list
from ml_connector.console.queries.customer_list import CustomerFilter, read_filter
from ml_connector.console.retrying import RetryRefused, count_retryable, mark_due
from ml_connector.console.visit import PageRequest, Started, number
from ml_connector.display import counted
from ml_connector.errors import ConnectorError
from ml_connector.model import RunContext
from ml_connector.scope import Scope


def ask(visit: PageRequest) -> Response:
    """Show how many customers of a filter would be retried, and why they failed."""
    wanted, wrong = _filter(visit, visit.query)
    if wrong:
        return visit.page("notice.html", status=400, ok=False, said=wrong)
    with visit.services.database.begin() as connection:
        total = customer_list.count(connection, sync=visit.sync.name, wanted=wanted)
        reasons = count_retryable(connection, sync=visit.sync, wanted=wanted)
    return visit.page(
        "retry.html",
        filter=wanted,
        total=total,
        reasons=reasons,
        number=sum(each.customers for each in reasons),
        first=first_to_approve(visit),
    )


def retry_listed(visit: PageRequest) -> Response:
    """Mark the failed and parked customers of a filter due, and start a run."""
    wanted, wrong = _filter(visit, visit.form)
    if wrong:
        return visit.page("notice.html", status=400, ok=False, said=wrong)
    if visit.services.refusal and (refused := visit.services.refusal(visit.sync)):
        return visit.told(refused)
    scope = Scope(
        sync=visit.sync,
        database=visit.services.database,
        vault=visit.services.vault,
        run=RunContext(actor=visit.caller.name),
        clock=visit.services.clock,
    )
    shown, run_id = number(visit.form.get("shown")), run_id_under_way(visit)
    try:
        marked = mark_due(scope, wanted=wanted, most=shown, run_id=run_id)
    except RetryRefused as refusal:
        return visit.told(Started(said=str(refusal), ok=False))
    if not marked:
        said = "None of these customers is failed or parked now."
        return visit.page("notice.html", status=404, ok=False, said=said)
    due = f"{counted(marked, 'customer is', 'customers are')} due again"
    try:
        started = begin_run(visit)
    except ConnectorError as error:
        started = Started(said=f"{str(error).rstrip('.')}.", ok=False)
    if started.ok:
        said = f"{due}. {started.said}"
    else:
        said = f"{due} with the next run, but none was started: {started.said}"
    return visit.page("notice.html", ok=started.ok, said=said, link=started.link)


def _filter(visit: PageRequest, given: Mapping[str, str]) -> tuple[CustomerFilter, str]:
    """Return the filter, and what is wrong with it. A wrong one must not become all customers."""
    wanted, wrong = read_filter(given, zone=visit.zone)
    said = "; ".join(f"{name}: {problem}" for name, problem in wrong.items())
    return wanted, said and f"The filter is wrong: {said}."
