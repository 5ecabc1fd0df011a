"""Checklist of a sync that has never finished a run: what is done, next, optional. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ml_connector.console import words
from ml_connector.settings import Sync
from ml_connector.sync.names import AccountNames

CHOOSE = (
    "Run `ml-connector init`. In a checkout, stop `make run` and run `make init`. Or set audience_id"
    " and new_contact_status in the settings yourself."
)
"""How the audience and the status of new contacts are chosen."""
_OWNERS = {"quickbooks": "Intuit", "mailchimp": "Mailchimp"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step. ``state``: done, next, later or optional.

    ``said``: what was done, or what to do. ``connect``: the system whose Connect button does it.
    ``path``: the console's page that does it.
    """

    name: str
    said: str
    state: str
    connect: str = ""
    path: str | None = None


def checklist(
    sync: Sync,
    *,
    names: AccountNames,
    problems: Mapping[str, words.Fault],
    paused: Sequence[str] | None,
    asking: int | None,
    webhooks: bool,
) -> list[Step]:
    """Return the steps up to the first run, in their order.

    ``problems``: why an account cannot be used, by system. ``paused``: DAGs that are switched off;
    None if Airflow knows none. ``asking``: the plan that waits for approval.
    """
    chosen = f"{names.audience or sync.audience_id}, new contacts: {words.STATUS[sync.new_contact_status]}"
    steps = [
        _account("quickbooks", problems, names.company),
        _account("mailchimp", problems, ""),
        _step(
            "Choose the audience and the consent",
            is_done=sync.audience_chosen,
            done=f"{chosen}.",
            todo=CHOOSE,
        ),
        _step(
            "Switch on the DAGs",
            is_done=paused == [],
            todo="Airflow has not read them yet. `ml-connector dags` prints the file for its DAG folder."
            if paused is None
            else f"Paused in Airflow: {', '.join(paused)}.",
        ),
        Step(
            name="Approve the first plan" if sync.first_run == "ask" else "Run the first sync",
            said="The plan waits for you." if asking else first_start(sync),
            state="later",
            path=f"/plans/{asking}" if asking else "",
        ),
    ]
    at = next(number for number, step in enumerate(steps) if step.state != "done")
    steps[at] = replace(steps[at], state="next")
    receiving = _step(
        "Set up webhooks",
        is_done=webhooks,
        done="Changes arrive within seconds.",
        todo="Without webhooks, changes wait for the next run.",
    )
    return [*steps, receiving if webhooks else replace(receiving, state="optional")]


def first_start(sync: Sync) -> str:
    """Return how the first run is started."""
    asks = " Nothing is written before you approve the plan." if sync.first_run == "ask" else ""
    return f"Press Sync now on the overview.{asks}"


def _step(name: str, *, is_done: bool, todo: str, done: str = "") -> Step:
    return Step(name=name, said=done if is_done else todo, state="done" if is_done else "later")


def _account(system: str, problems: Mapping[str, words.Fault], connected_to: str) -> Step:
    fault = problems.get(system) or words.Fault("")
    step = _step(
        f"Connect {words.SYSTEM[system]}",
        is_done=not fault.said,
        done=connected_to and f"{connected_to}.",
        todo=f"Register the redirect address below with your {_OWNERS[system]} app, then press the button."
        if fault.connect
        else f"{words.sentence(fault.said)}.",
    )
    return replace(step, connect=fault.connect)
