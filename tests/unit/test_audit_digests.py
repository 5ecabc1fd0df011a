"""The keyed hashes of the audit cover all that they stand for."""

from datetime import UTC, datetime, timedelta

import pytest

from ml_connector.audit.digests import batch_mac, checkpoint_mac, link_mac, rewrite_mac
from ml_connector.vault import Vault

VAULT = Vault(encryption_keys=[b"k" * 32], index_key=b"i" * 32)
AT = datetime(2026, 11, 30, tzinfo=UTC)
LATER = AT + timedelta(microseconds=1)


@pytest.mark.parametrize(
    ("mac", "covered", "others"),
    [
        (link_mac, (b"previous", 1, 2, AT, b"digest"), (b"another", 2, 3, LATER, b"other")),
        (batch_mac, (7, 3, 100, b"digests"), (8, 4, 101, b"others!")),
        (rewrite_mac, (7, "erased", b"sealed", b"now"), (8, "rotated", b"other", b"then")),
        (checkpoint_mac, (AT, 1, 2, b"mac"), (LATER, 2, 3, b"other")),
    ],
    ids=["seal", "batch", "rewrite", "checkpoint"],
)
def test_a_keyed_hash_changes_with_each_part_that_it_covers(mac, covered, others):
    changed = [
        (*covered[:place], other, *covered[place + 1 :]) for place, other in enumerate(others)
    ]
    assert len({mac(*parts, VAULT) for parts in (covered, *changed)}) == 1 + len(changed)
