"""Approval task: pass an ordinary plan, ask a person to approve a first one or a larger one."""

from datetime import timedelta
from typing import Any

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import Context

from ml_connector.console import words
from ml_connector.display import counted
from ml_connector.sync.guard import HeldPlan
from ml_connector_airflow.compat import response_timeout
from ml_connector_airflow.plugin import served_under
from ml_connector_airflow.retries import fail_at_once
from ml_connector_airflow.tasks import sync as sync_tasks

APPROVE, REJECT = "Approve", "Reject"
CONSOLE = "/ml-connector/console"
SHOWN = "shown"
"""Parameter of a decision: the fingerprint of the plan that the console's page showed."""
ANSWER_WITHIN = timedelta(hours=20)
"""Before the next daily run is due; without a decision the plan is rejected."""
RETRY_DELAY = timedelta(seconds=10)


class PlanApproval(HITLOperator):
    """Return the shards to push: the plan's, or none if a person rejected it.

    Waits as Airflow's human-in-the-loop tasks do, without a worker. The question contains counts,
    reasons and QuickBooks ids but no personal data, because Airflow stores it unencrypted.
    ``rejected``: what the question says of a plan that is rejected.
    """

    template_fields = (*HITLOperator.template_fields, "sync")

    def __init__(
        self, *, sync: Any, rejected: str = "the next run plans again", **kwargs: Any
    ) -> None:
        # The scheduler may lose an immediate decision: soon asked again.
        kwargs.setdefault("retry_delay", RETRY_DELAY)
        super().__init__(
            subject="The plan waits for your approval",
            options=[APPROVE, REJECT],
            defaults=REJECT,
            **response_timeout(HITLOperator, ANSWER_WITHIN),
            **kwargs,
        )
        self.sync, self.rejected = sync, rejected

    @fail_at_once
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
        self.subject = f"{self.sync}: {held.why}"
        self.body = _question(self.sync, held, self.rejected)
        shards: list[int] = super().execute(context)
        return shards

    @fail_at_once
    def execute_complete(self, context: Context, event: dict[str, Any]) -> list[int]:
        """Return the plan's shards if it was approved and is unchanged.

        Waits on if the decision is about an earlier state of the plan, as an old page shows it.
        """
        told = dict(event.get("params_input") or {})
        shown = told.pop(SHOWN, None)
        if shown and not sync_tasks.is_shown(self.sync, fingerprint=str(shown)):
            return list(super().execute(context))  # the same question: Airflow keeps its text
        answer = super().execute_complete(context, {**event, "params_input": told})
        user = answer["responded_by_user"] or {}
        person = str(user.get("name") or user.get("id") or "")
        if answer["chosen_options"] == [APPROVE]:
            sync_tasks.approve_plan(self.sync, person=person)
            return sync_tasks.shards_to_push(self.sync)
        sync_tasks.reject_plan(self.sync, person=person)
        return []


def _starter(context: Context) -> str:
    return str(getattr(context["dag_run"], "triggering_user_name", "") or "")


def plan_page(sync: str, plan_id: int) -> str:
    """Return the path of a plan's page, below the path that Airflow is served under."""
    return f"{served_under()}{CONSOLE}/{sync}/plans/{plan_id}"


def _question(sync: str, held: HeldPlan, rejected: str) -> str:
    """Return the question as Markdown. Its subject says already why the plan waits."""
    reasons = [f"nothing was written yet: {held.first}"] if held.first else []
    lines = [
        *(
            f"**{words.sentence(each)}.**\n"
            for each in (*reasons, *held.limits)
            if each != held.why
        ),
        f"The audience has {counted(held.forecast.size.audience, 'contact')}. The plan:",
        "",
        *(f"- {sentence}" for sentence in held.forecast.sentences()),
        "",
        "| change | reason | for example, QuickBooks ids |",
        "|---|---|---|",
        *(
            f"| {words.KIND.get(kind, kind)} | {words.reason(reason)} | {', '.join(ids)} |"
            for kind, reason, ids in held.samples
        ),
        "",
        f"Contact by contact: [plan {held.plan_id}]({plan_page(sync, held.plan_id)}).",
        "",
        f"**Approve** writes exactly this plan. **Reject** writes nothing: {rejected}.",
    ]
    return "\n".join(lines)
