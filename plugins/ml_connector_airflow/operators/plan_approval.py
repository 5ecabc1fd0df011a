"""Approval task: pass a plan of ordinary size, ask a person to approve a larger one."""

from datetime import timedelta
from typing import Any

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import Context

from ml_connector.store.approvals import Size
from ml_connector.sync.guard import HeldPlan
from ml_connector_airflow.tasks import sync as sync_tasks

APPROVE, REJECT = "Approve", "Reject"
PLANS = "/ml-connector/console/plans"
ANSWER_WITHIN = timedelta(hours=20)
"""Before the next daily run is due; no answer is a no."""
RETRY_DELAY = timedelta(seconds=10)


class PlanApproval(HITLOperator):
    """Return the shards to push: the plan's, or none if a person rejected it.

    Waits as Airflow's human-in-the-loop tasks do, without a worker. The question contains counts,
    reasons and QuickBooks ids but no personal data, because Airflow stores it unencrypted.
    """

    def __init__(self, *, sync: str, **kwargs: Any) -> None:
        # The scheduler may lose an answer that is given at once: soon asked again.
        kwargs.setdefault("retry_delay", RETRY_DELAY)
        super().__init__(
            subject="The plan is larger than the guard allows",
            options=[APPROVE, REJECT],
            defaults=REJECT,
            response_timeout=ANSWER_WITHIN,
            **kwargs,
        )
        self.sync = sync

    def execute(self, context: Context) -> list[int]:
        """Return the plan's shards at once, or ask and wait."""
        held = sync_tasks.hold_large_plan(self.sync)
        if held is None:
            return sync_tasks.shards_to_push(self.sync)
        if not (context["dag_run"].conf or {}).get("attended", True):
            sync_tasks.reject_plan(self.sync, person="")
            return []
        if context["params"].get("approved"):
            sync_tasks.approve_plan(self.sync, person=_starter(context))
            return sync_tasks.shards_to_push(self.sync)
        self.subject = f"{self.sync}: {held.limits[0]}"
        self.body = _question(held)
        shards: list[int] = super().execute(context)
        return shards

    def execute_complete(self, context: Context, event: dict[str, Any]) -> list[int]:
        """Return the plan's shards if it was approved and is unchanged."""
        answer = super().execute_complete(context, event)
        user = answer["responded_by_user"] or {}
        person = str(user.get("name") or user.get("id") or "")
        if answer["chosen_options"] == [APPROVE]:
            sync_tasks.approve_plan(self.sync, person=person)
            return sync_tasks.shards_to_push(self.sync)
        sync_tasks.reject_plan(self.sync, person=person)
        return []


def _starter(context: Context) -> str:
    return str(getattr(context["dag_run"], "triggering_user_name", "") or "")


def _sum(size: Size) -> str:
    return (
        f"The plan: {size.creates} new contacts, {size.updates} changed, {size.archives} archived; "
        f"the audience has {size.audience}."
    )


def _question(held: HeldPlan) -> str:
    size = held.size
    lines = [
        *(f"- **{limit}**" for limit in held.limits),
        "",
        _sum(size),
        "",
        "| change | reason | for example, QuickBooks ids |",
        "|---|---|---|",
        *(f"| {kind} | {reason} | {', '.join(ids)} |" for kind, reason, ids in held.samples),
        "",
        f"Every contact with its reason: [plan {held.plan_id}]({PLANS}/{held.plan_id}).",
        "",
        "*Approve* writes exactly this plan, *Reject* writes nothing; the next run plans anew.",
    ]
    return "\n".join(lines)
