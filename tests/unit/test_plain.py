"""The fast way for plain customers decides as the general rules do, whatever there is around."""

import random
from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from ml_connector.model import Policy, Status
from ml_connector.rules.decide import (
    CHANGE_COLUMNS,
    CONTACT_COLUMNS,
    CUSTOMER_COLUMNS,
    VERDICT_COLUMNS,
    ContactRow,
    CustomerRow,
    Decisions,
    decide,
)
from ml_connector.rules.plain import decide_plain
from ml_connector.store.frames import frame_of, unhexed

NOW = datetime(2026, 3, 1, tzinfo=UTC)
KEYS = [bytes([n]) * 31 + b"\x00" for n in range(1, 91)]
HASHES = [b"\xaa" * 16, b"\xbb" * 15 + b"\x00"]
SHOWN = [each + tag for each in HASHES for tag in (b"\x00", b"\x01")]
IDS = [str(n) for n in range(1, 101)]
STATUSES = [status.value for status in Status]


class World(random.Random):
    """Made-up customers and contacts: mostly plain, each oddity often enough, alone and together."""

    def rarely(self) -> bool:
        return self.random() < 0.05

    def perhaps(self, values):
        return self.choice(values) if self.rarely() else None

    def customer(self, number: int) -> CustomerRow:
        email_key = None if self.rarely() else self.choice(KEYS)
        return CustomerRow(
            customer_id=IDS[number],
            customer_no=number,
            email_key=email_key,
            email_problem=None if email_key else self.choice(["no_email", "invalid_email"]),
            contact_key=self.choice([None, email_key, email_key, email_key, self.choice(KEYS)]),
            fields_hash=self.choice(HASHES),
            active=not self.rarely(),
            is_job=self.rarely(),
            is_project=self.rarely(),
            gone=self.rarely(),
            left_out=self.perhaps(["customer_type_excluded"]),
            decision=self.perhaps(["contact", "linked", "skipped"]),
            reason=None,
            linked_to=None,
            opted_out=self.rarely(),
        )

    def contact(self, email_key: bytes, owners: list[str]) -> ContactRow:
        return ContactRow(
            email_key=email_key,
            status=self.choice(["subscribed", "unsubscribed", self.choice(STATUSES)]),
            previous_status=self.perhaps(["subscribed", "unsubscribed"]),
            owner=self.choice([None, self.choice(IDS), *owners, *owners, *owners]),
            pushed_hash=self.choice([None, *SHOWN]),
            archived_by=self.choice([None, "us", "marketer"]),
            tagged_inactive=self.rarely(),
            refused_hash=self.perhaps(SHOWN),
            refused_reason=self.perhaps(["fake_email"]),
            parked_until=self.perhaps([NOW - timedelta(days=1), NOW + timedelta(days=1)]),
            complained=self.rarely(),
        )

    def few(self) -> set[bytes]:
        return set(self.sample(KEYS, 3))


def general(people, known, keys, suppressed, foreign, awaited, policy) -> Decisions:
    return decide(
        frame_of(people, CUSTOMER_COLUMNS, hexed=("email_key", "contact_key", "fields_hash")),
        frame_of(
            list(known.values()),
            CONTACT_COLUMNS,
            hexed=("email_key", "pushed_hash", "refused_hash"),
        ),
        keys={each.hex() for each in keys},
        suppressed={each.hex() for each in suppressed},
        policy=policy,
        now=NOW,
        foreign={each.hex() for each in foreign},
        awaited={each.hex() for each in awaited},
    )


def told(decisions: Decisions):
    """Everything that was decided, as values, keys as bytes."""
    return (
        sorted(unhexed(decisions.changes, CHANGE_COLUMNS, hexed=("email_key", "decided_hash"))),
        sorted(unhexed(decisions.customers, VERDICT_COLUMNS, hexed=())),
        sorted(unhexed(decisions.owners, ["email_key", "owner"], hexed=())),
        sorted(unhexed(decisions.left, ["email_key", "status", "owner", "why"], hexed=())),
    )


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_plain_customers_are_decided_as_the_general_rules_decide(seed):
    world = World(seed)
    keys = set(world.sample(KEYS, 70))
    everybody = [world.customer(number) for number in range(world.randrange(len(IDS)))]
    # As the planner reads them: everybody who is or was at one of the keys.
    people = [each for each in everybody if {each.email_key, each.contact_key} & {*keys, None}]
    here = {key: [each.customer_id for each in people if each.email_key == key] for key in KEYS}
    known = {key: world.contact(key, here[key]) for key in world.sample(KEYS, 50)}
    suppressed, foreign, awaited = world.few(), world.few(), world.few()
    policy = Policy(
        new_contact_status=world.choice(["subscribed", "pending"]),
        create=world.choice(["all", "all", "never"]),
        include_jobs=world.choice([True, False]),
        on_inactive=world.choice(["archive", "keep", "tag"]),
    )
    plain = decide_plain(
        people, known, keys=keys, barred=suppressed | foreign | awaited, policy=policy
    )
    rest = general(plain.rest, known, keys - plain.keys, suppressed, foreign, awaited, policy)
    changes, verdicts, owners, left = told(rest)
    together = (
        sorted([*changes, *plain.changes]),
        sorted([*verdicts, *plain.customers]),
        owners,
        left,
    )
    assert told(general(people, known, keys, suppressed, foreign, awaited, policy)) == together


def test_a_new_customer_and_a_changed_one_are_plain_and_the_rest_is_not():
    new = CustomerRow("1", 1, KEYS[0], None, None, HASHES[0], True, False, False, False, None,
                      None, None, None, False)  # fmt: skip
    changed = CustomerRow("2", 2, KEYS[1], None, KEYS[1], HASHES[0], True, False, False, False,
                          None, "contact", "new_customer", None, False)  # fmt: skip
    shared = [
        CustomerRow(id_, int(id_), KEYS[2], None, None, HASHES[0], True, False, False, False, None,
                    None, None, None, False)
        for id_ in ("3", "4")
    ]  # fmt: skip
    known = ContactRow(
        KEYS[1], "unsubscribed", None, "2", SHOWN[2], None, False, None, None, None, False
    )
    plain = decide_plain(
        [new, changed, *shared],
        {KEYS[1]: known},
        keys=set(KEYS),
        barred=set(),
        policy=Policy(new_contact_status="subscribed"),
    )
    assert plain.changes == [
        (KEYS[0], "1", "create", "new_customer", "subscribed", HASHES[0] + b"\x00", False),
        (KEYS[1], "2", "update", "fields_changed", None, HASHES[0] + b"\x00", False),
    ]
    assert plain.rest == shared
