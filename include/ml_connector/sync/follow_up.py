"""Follow up on a run's writes: link new contacts, and take opt-outs along that showed meanwhile.

Runs after the archives. Whatever was read since the plan may have shown that a person opted out at
an address the customer has just left (A42). The contact it has now is then lowered, and nothing
else happens: all further changes wait for a plan of their own.
"""

from collections.abc import Collection

from ml_connector.mailchimp.client import MailchimpClient
from ml_connector.scope import Scope
from ml_connector.store import deciding, observations
from ml_connector.sync.fetch_members import link_members
from ml_connector.sync.planner import Decider
from ml_connector.sync.push import push_shard

SHARD = -1
"""Lowerings have a shard of their own: what else a plan still has to push is not theirs to push."""


def follow_up(
    scope: Scope,
    client: MailchimpClient,
    *,
    plan_id: int | None = None,
    keys: Collection[bytes] | None = None,
) -> dict[str, int]:
    """Link created contacts, then lower the contacts of customers that opted out on the way.

    ``keys``: the contacts that were written, if they are few. Returns the number of changes by
    final state. ``plan_id`` None opens a webhook plan if there is anything to lower.
    """
    link_members(scope, client, keys=keys)
    if keys is None:
        with scope.database.begin() as connection:
            observations.drop_strangers(connection, sync=scope.name)
    return take_opt_outs_along(scope, client, plan_id=plan_id)


def take_opt_outs_along(
    scope: Scope, client: MailchimpClient, *, plan_id: int | None = None
) -> dict[str, int]:
    """Lower the contacts of customers that opted out at an address they have left (A42)."""
    with scope.database.begin() as connection:
        late = deciding.opted_out(connection, sync=scope.name)
    if not late:
        return {}
    plan_id = plan_id or scope.plan_id("webhooks")
    if not Decider(scope, plan_id=plan_id).decide_lowering(late, shard=SHARD):
        return {}
    return push_shard(scope, client, plan_id=plan_id, shard=SHARD, again=False)
