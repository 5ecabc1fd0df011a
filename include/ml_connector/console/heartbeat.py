"""Heartbeat: whether the sync runs on schedule, as one sentence at the top of the console. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from croniter import croniter
from sqlalchemy import Row

from ml_connector.console import words
from ml_connector.console.checklist import CHOOSE, first_start
from ml_connector.display import counted, pattern_time
from ml_connector.settings import Sync

GRACE = timedelta(hours=2)
"""A run may take this long, or wait for a retry, before the console reports it missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """The health of a sync. ``state``: running, waiting, paused, failed, stopped or new.

    ``connect``: systems that have to be connected. ``next_run`` follows the schedule; None while the
    sync is paused. ``plan``: the plan that waits for approval. ``startable``: whether a run may be
    started by hand: nothing has to be set up first.
    """

    state: str
    headline: str
    detail: str
    next_run: datetime | None
    connect: tuple[str, ...] = ()
    plan: int | None = None
    startable: bool = True

    def tone(self, *, attention: bool) -> str:
        """Return its colour. ``attention``: something else waits for a person."""
        if self.state in ("failed", "stopped"):
            return "bad"
        return "good" if self.state == "running" and not attention else "warn"


def heartbeat(
    sync: Sync,
    *,
    now: datetime,
    paused: bool | None,
    last_finished: datetime | None,
    last_state: str | None,
    last_error: str | None,
    refused: Mapping[str, str] | None = None,
    asking: Row[Any] | None = None,
) -> Heartbeat:
    """Judge a sync by its accounts, its schedule and its last run: the run's end, state and error.

    ``refused``: why an account has to be connected, by system. ``asking``: the last run's plan, if
    it waits for approval.
    """
    local = now.astimezone(ZoneInfo(sync.timezone))
    following = croniter(sync.schedule, local).get_next(datetime)
    due = croniter(sync.schedule, local - GRACE).get_prev(datetime)
    new = last_finished is None and last_state is None
    setup = _setup(sync, refused or {}, paused=bool(paused)) if new else None
    held = setup or _held_by_person(
        refused or {}, asking, following=following, paused=bool(paused), new=last_finished is None
    )
    if held is not None:
        return held
    if new:
        return Heartbeat(
            state="new",
            headline="The sync has not run yet.",
            detail=first_start(sync),
            next_run=following,
        )
    if last_state == "failed":
        return Heartbeat(
            state="failed",
            headline="The last run failed.",
            detail=last_error or "Its log in Airflow says why.",
            next_run=following,
        )
    if last_finished is None or last_finished < due:
        return Heartbeat(
            state="stopped",
            headline="The sync has stopped.",
            detail=f"The run due on {pattern_time(due, 'd MMM, HH:mm')} has not finished. "
            "See in Airflow whether the scheduler is up and what the run waits for.",
            next_run=following,
        )
    return Heartbeat(
        state="running",
        headline="The sync is on schedule.",
        detail="Every run that was due has finished.",
        next_run=following,
    )


def _setup(sync: Sync, refused: Mapping[str, str], *, paused: bool) -> Heartbeat | None:
    """Return the step that comes next before a first run; None if all is set up."""
    if refused:
        systems = " and ".join(words.SYSTEM[system] for system in refused)
        headline = f"{systems} {'are' if len(refused) > 1 else 'is'} not connected yet."
        detail = "The first sync waits until both accounts are connected."
    elif not sync.audience_chosen:
        headline, detail = "Choose the audience and the consent of new contacts.", CHOOSE
    elif paused:
        headline = "The sync is not switched on yet."
        detail = f"Switch on its DAG sync_customers__{sync.name} in Airflow."
    else:
        return None
    return Heartbeat(
        state="new",
        headline=headline,
        detail=detail,
        next_run=None,
        connect=tuple(refused),
        startable=False,
    )


def _held_by_person(
    refused: Mapping[str, str],
    asking: Row[Any] | None,
    *,
    following: datetime,
    paused: bool,
    new: bool,
) -> Heartbeat | None:
    """Return the state of a sync that waits for a person; None if it does not."""
    if refused:
        return Heartbeat(
            state="new" if new else "failed",
            headline=f"{'. '.join(refused.values())}.",
            detail="The first sync waits until both accounts are connected."
            if new
            else "The sync stops until you connect again. Nothing is lost meanwhile.",
            next_run=None if paused else following,
            connect=tuple(refused),
        )
    if paused:
        return Heartbeat(
            state="paused",
            headline="The sync is paused.",
            detail="Nothing is sent to Mailchimp until its DAG is switched on again in Airflow.",
            next_run=None,
        )
    if asking is not None:
        why = asking.counts.get("why", "")
        return Heartbeat(
            state="waiting",
            headline=f"Waiting for your approval of {counted(asking.changes, 'change')}.",
            detail=f"{why[:1].upper()}{why[1:]}. Nothing is written until then.",
            next_run=following,
            plan=asking.id,
        )
    return None
