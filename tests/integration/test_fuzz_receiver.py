"""Fuzz of the webhook receiver: no 5xx, nothing unproven stored, nothing personal in clear or logged."""

import http.client
import json
import time
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from ml_connector.mailchimp import webhooks as mailchimp
from ml_connector.quickbooks import webhooks as quickbooks
from ml_connector.webhooks.endpoint import PREFIX
from ml_connector.webhooks.receiver.body import LARGEST
from tests.integration.company import AUDIENCE, REALM
from tests.integration.fuzzing import INSIDE, KEYS, MANY, TEXTS, changed, found, stored
from tests.integration.receiving import SECRET, SIGNING_SECRET, TOKEN, serving

MARK = "zyprian@quastenflosser.example"
SECRETS = (TOKEN, SECRET, SIGNING_SECRET, *KEYS)
STORES = {"webhook_inbox", "audit", "audit_batches", "cursors"}
"""An event that cannot be used is settled at once, with its audit row. The first event ever stores
the fingerprint of the index key."""
EXAMPLES = settings(
    max_examples=500 if MANY else 40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

PATHS = st.sampled_from(
    ["/quickbooks", "/mailchimp/main", "/mailchimp/signed", "/mailchimp/unset", "/mailchimp/", "/"]
) | TEXTS.map(lambda part: f"/mailchimp/{quote(part, safe='')}")
METHODS = st.sampled_from(["POST"] * 8 + ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"])
TYPES = st.sampled_from(
    ["application/json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x",
     "text/plain; charset=utf-7", "application/json; charset=\xff", "", "*/*", ";;;"]
)  # fmt: skip
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=20)
    | st.sampled_from([MARK, REALM, AUDIENCE, "a" * 5000, "\0", "\ud800", "qbo.customer.updated.v1"]),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(
        st.sampled_from(
            ["id", "type", "time", "source", "specversion", "intuitentityid", "intuitaccountid",
             "data", "eventNotifications", "realmId", "dataChangeEvent", "entities", "name",
             "operation", "lastUpdated", "deletedId"]
        ) | st.text(max_size=10),
        inner,
        max_size=6,
    ),
    max_leaves=12,
)  # fmt: skip
DOCUMENTS = st.one_of(
    st.lists(VALUES, max_size=5).map(json.dumps),
    VALUES.map(lambda value: json.dumps({"eventNotifications": value})),
    VALUES.map(json.dumps),
    st.sampled_from(["[" * 3000, "{}" * 3, "[" + "{}," * 2000 + "{}]", "\ufeff[]", "1e999", ""]),
).map(lambda said: said.encode("utf-8", "surrogatepass"))
NAMES = st.sampled_from(
    ["type", "fired_at", "data[id]", "data[list_id]", "data[email]", "data[new_email]", "data",
     "data[merges][FNAME]", "data[merges][GROUPINGS][0][name]", "data[", "data[a][b][c][d][e][f][g]"]
)  # fmt: skip
FORMS = st.lists(
    st.tuples(
        NAMES | TEXTS,
        TEXTS | st.sampled_from([MARK, AUDIENCE, "unsubscribe", "upemail", "2026-11-23 11:59:58"]),
    ),
    max_size=8,
).map(lambda pairs: "&".join(f"{quote(name)}={quote(value)}" for name, value in pairs).encode())
BODIES = DOCUMENTS | FORMS | st.binary(max_size=300) | st.just(b"x" * (LARGEST + 1))


@pytest.fixture
def served(database_url):
    with serving(database_url) as running:
        yield running


def asked(served, method: str, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, str]:
    """Send a request over a connection of its own; return status and body."""
    connection = http.client.HTTPConnection(*served.address, timeout=60)
    try:
        connection.request(method, PREFIX + path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    except (BrokenPipeError, ConnectionResetError):
        if len(body) <= LARGEST:
            raise
        return 413, ""  # it hung up on a body that it had refused
    finally:
        connection.close()


@EXAMPLES
@given(st.data())
def test_no_request_without_a_proof_gets_a_5xx_or_leaves_a_row(served, capfd, data):
    method, path, body = data.draw(METHODS), data.draw(PATHS), data.draw(BODIES)
    marks = st.sampled_from(["", "t=1,v1=00", "t=,v1=", "v1=" * 50, "\xff", "=" * 44, "a" * 2000])
    headers = {
        "content-type": data.draw(TYPES),
        "intuit-signature": data.draw(marks),
        "x-mailchimp-signature": data.draw(marks),
    }
    query = data.draw(st.sampled_from(["", "?secret=", "?secret=%ff", "?" + "a&" * 300]))
    status, said = asked(served, method, path + query, body, headers)
    # An empty POST and a GET are how Mailchimp tests the address.
    tested = path.startswith("/mailchimp/") and (method in {"GET", "HEAD"} or not body)
    assert status in {400, 401, 404, 405, 413, *([200] if tested else [])}, (status, said)
    assert found((*SECRETS, *INSIDE, MARK), said) == []
    assert served.rows() == []
    assert found((*SECRETS, MARK), "".join(capfd.readouterr())) == []


@EXAMPLES
@given(st.data())
def test_a_proven_body_of_any_content_is_stored_sealed_and_answered_200(served, capfd, data):
    sender = data.draw(st.sampled_from(["quickbooks", "main", "signed"]))
    body = data.draw(DOCUMENTS if sender == "quickbooks" else FORMS.filter(bool))
    headers, path = {"content-type": data.draw(TYPES)}, f"/mailchimp/{sender}?secret={SECRET}"
    if sender == "quickbooks":
        headers["intuit-signature"] = quickbooks.signature(body, TOKEN).decode()
        path = "/quickbooks"
    if sender == "signed":
        headers["x-mailchimp-signature"] = mailchimp.signature(
            body, SIGNING_SECRET, int(time.time())
        )
    before = stored(served.database)
    assert asked(served, "POST", path, body, headers)[0] == 200
    assert changed(before, stored(served.database)) <= STORES
    with served.database.begin() as connection:
        rows = connection.execute(
            text("""(SELECT w::text FROM ml_connector.webhook_inbox w ORDER BY id DESC LIMIT 20)
                    UNION ALL
                    (SELECT a::text FROM ml_connector.audit a ORDER BY id DESC LIMIT 20)""")
        ).scalars()
        assert found((*SECRETS, "quastenflosser"), "\n".join(rows)) == []
    assert found((*SECRETS, MARK), "".join(capfd.readouterr())) == []
