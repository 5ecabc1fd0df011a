"""The console over a filled company: who may see what, and what the pages say."""

import csv
import io
import itertools
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest
from pydantic import BaseModel
from sqlalchemy import text
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

from ml_connector.console.access import PREFIX, Caller, Right
from ml_connector.console.app import PAGES, build_console
from ml_connector.console.links import Apps
from ml_connector.console.outside import RunUnderWay, StatusLine, TokenExpiry
from ml_connector.console.pages import audit
from ml_connector.console.pages.setup import CONSENT_PAGES, COOKIE
from ml_connector.console.queries import customer_list
from ml_connector.console.visit import Services, Started
from ml_connector.console.words import STATUS, Fault, fault
from ml_connector.errors import NeedsReauth
from ml_connector.settings import NO_AUDIENCE, Sync, Tags
from ml_connector.store import approvals
from ml_connector.sync import guard
from ml_connector.sync.drift import Drift
from ml_connector.sync.samples import SampleContact, SampleField
from tests.integration.company import REALM, Company

_numbers = itertools.count(1)

ROLES = {
    "anonymous": None,
    "stranger": set(),
    "viewer": {Right.READ},
    "user": {Right.READ, Right.RUN},
    "admin": set(Right),
}
OURS = {"X-Console": "1", "Sec-Fetch-Site": "same-origin"}


@dataclass
class FakeOutside:
    """The world around the console, as a test wants it; remembers what was connected."""

    connected: list[tuple[str, ...]] = field(default_factory=list)
    realms: dict[str, str] = field(default_factory=dict)
    under_way: RunUnderWay | None = None

    def run_under_way(self, sync):
        return self.under_way

    def realm(self, sync):
        return self.realms.get(sync.name, REALM)

    def paused(self, sync):
        return False

    def paused_dags(self, sync):
        return []

    def apps(self, sync):
        return Apps("https://app.qbo.intuit.com", "https://us19.admin.mailchimp.com")

    def token_ends(self, conn_id):
        return TokenExpiry()

    def key_problem(self, conn_id):
        return ""

    def connections(self, sync):
        return [
            StatusLine(name="QuickBooks", said="connection quickbooks_default", ok=True),
            StatusLine(name="Token", said="stored", ok=True, access="quickbooks"),
            StatusLine(name="Mailchimp", said="key set", ok=True, access="mailchimp"),
        ]

    def webhooks(self, sync, base):
        return [StatusLine(name="Mailchimp", said=f"{base}/hook", ok=False, fix="Register it.")]

    def ping(self, sync, system):
        return f"{system} answers"

    def audience(self, sync):
        return [StatusLine(name="FNAME", said="is there", ok=True)]

    def sample_contacts(self, sync):
        now = SampleField("FNAME", "First Name", "Amelia", "Amelia", "stays: it was there before")
        name = SampleField("LNAME", "Last Name", "empty", "<Finch>")
        return [
            SampleContact(
                customer_id="1",
                name="Amy",
                email="amy@finch.org",
                status_before="subscribed",
                status_after="subscribed",
                fields=[now, name],
            )
        ]

    def drift(self, sync):
        yield Drift(
            "differs", "1", "=Amy", "amy@finch.org", "First Name", "Amy", "=Amelie", None,
            "in Mailchimp", "keep",
        )  # fmt: skip

    def use_in_quickbooks(self, sync, customer_id, tag, *, actor):
        self.connected.append((customer_id, tag, actor))

    def base_url(self):
        return "https://airflow.example.com"

    def public_url(self):
        return ""

    def consent_page(self, system, conn_id, *, redirect_uri, state):
        return f"https://consent.example.org/{conn_id}?state={state}"

    def connect(self, system, conn_id, consent, *, redirect_uri):
        self.connected.append((conn_id, consent.code, consent.realm_id, redirect_uri))
        return "Sandbox Company"


class Visitor:
    """A browser of somebody with a role."""

    def __init__(self, company, role: str, **services) -> None:
        rights = ROLES[role]

        async def identify(request):
            if rights is None:
                return None
            return Caller(name=role, may=lambda right, _sync: right in rights)

        self.outside = services.get("outside", FakeOutside())
        values = {
            "database": company.database,
            "vault": company.vault,
            "syncs": lambda: {"main": company.sync_settings()},
            "identify": identify,
            "outside": self.outside,
            "clock": company.clock,
            **services,
        }
        app = Starlette(routes=[Mount(PREFIX, build_console(Services(**values)))])
        self.http = TestClient(app, base_url="https://airflow.example.com", follow_redirects=False)

    def get(self, path: str, **options):
        return self.http.get(f"{PREFIX}{path}", **options)

    def post(self, path: str, data=None, *, partial: bool = True, headers=OURS):
        extra = {"HX-Request": "true"} if partial else {}
        return self.http.post(f"{PREFIX}{path}", data=data or {}, headers={**headers, **extra})

    def page(self, path: str) -> str:
        answer = self.get(path)
        assert answer.status_code == 200, answer.text
        return words_of(answer.text)


def words_of(html: str) -> str:
    """A page's text, on one line."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", html)).replace("&#39;", "'")


def fill(company: Company) -> dict[str, str]:
    """Amy has opted out, Bo shares Cy's address, Di has none, Ed is archived, a webhook is dead."""
    ids = {
        "Amy": company.customer(
            "Amy", "amy@birds-sanctuary.com", FamilyName="Müller", Notes="Parrots."
        ),
        "Bo": company.customer("Bo", "shared@birds-sanctuary.com"),
        "Cy": company.customer("Cy", "shared@birds-sanctuary.com"),
        "Di": company.customer("Di"),
        "Ed": company.customer("Ed", "ed@birds-sanctuary.com"),
    }
    company.sync()
    company.edit(ids["Amy"], GivenName="Amelie")
    company.edit(ids["Ed"], Active=False)
    company.person("amy@birds-sanctuary.com", "unsubscribe", reason="Too many mails")
    company.seed("nobody@elsewhere.org")
    company.sync()
    company.told_by_quickbooks(("updated", ids["Amy"]))
    company.work_off()
    company.told_by_quickbooks(("updated", ids["Bo"]))
    with company.database.begin() as connection:
        connection.execute(
            text("""UPDATE ml_connector.webhook_inbox SET state = 'dead', reason = 'not_found'
                    WHERE state = 'pending'""")
        )
    return ids


@pytest.fixture(scope="module")
def filled(
    mock_servers, postgres, template_database, tmp_path_factory
) -> Iterator[tuple[str, dict]]:
    """A company's database that every test gets a copy of, and the ids of its customers."""
    mock_servers.reset()
    postgres.create_database("filled_console", template=template_database)
    company = Company(
        mock_servers=mock_servers,
        database_url=postgres.url("filled_console"),
        folder=tmp_path_factory.mktemp("f"),
    )
    company.settings["timezone"] = "America/Los_Angeles"
    ids = fill(company)
    company.close()
    yield "filled_console", ids
    postgres.drop_database("filled_console")


@contextmanager
def copied(filled, mock_servers, postgres, folder) -> Iterator[Company]:
    name = f"console_{next(_numbers)}"
    postgres.create_database(name, template=filled[0])
    company = Company(mock_servers=mock_servers, database_url=postgres.url(name), folder=folder)
    company.settings["timezone"] = "America/Los_Angeles"
    company.runs, company.ids = 10, filled[1]
    yield company
    company.close()
    postgres.drop_database(name)


@pytest.fixture(scope="module")
def full(filled, mock_servers, postgres, tmp_path_factory) -> Iterator[Company]:
    """For tests that only look."""
    with copied(filled, mock_servers, postgres, tmp_path_factory.mktemp("f")) as company:
        yield company


@pytest.fixture
def own(filled, mock_servers, postgres, tmp_path) -> Iterator[Company]:
    """For tests that change something."""
    with copied(filled, mock_servers, postgres, tmp_path) as company:
        yield company


@pytest.fixture
def empty(template_database, mock_servers, postgres, tmp_path) -> Iterator[Company]:
    with copied((template_database, {}), mock_servers, postgres, tmp_path) as company:
        yield company


@pytest.fixture
def visitor(full) -> Visitor:
    return Visitor(full, "admin")


# ── who may ──────────────────────────────────────────────────────────────────────────────────

EXAMPLES = {"{sync}": "main", "{id:row}": "1", "{id}": "1", "{key}": "00", "{system}": "quickbooks"}
ALLOWED = {
    Right.READ: {"viewer", "user", "admin"},
    Right.RUN: {"user", "admin"},
    Right.SETUP: {"admin"},
    Right.CONNECT: {"admin"},
}


@pytest.mark.parametrize("role", ROLES)
def test_every_route_lets_in_whom_it_should_and_nobody_else(own, role):
    visitor = Visitor(own, role)
    for page in PAGES:
        path = f"/main{page.path}"
        for name, value in EXAMPLES.items():
            path = path.replace(name, value)
        answer = visitor.get(path) if page.method == "GET" else visitor.post(path)
        if role == "anonymous":
            assert answer.status_code == 401, path
        elif role in ALLOWED[page.right]:
            assert answer.status_code not in (401, 403, 405, 500, 503), (path, answer.text)
        else:
            assert answer.status_code == 403, path
        assert_closed(answer)


def assert_closed(answer) -> None:
    policy = answer.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "frame-ancestors 'self'" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("path", ["/", "/static/console.css", "/static/theme.js"])
def test_what_is_no_page_needs_a_login_as_well(full, path):
    assert Visitor(full, "anonymous").get(path).status_code == 401
    assert Visitor(full, "viewer").get(path).status_code in (200, 303)


def test_nothing_describes_the_routes_to_strangers(full):
    for path in ("/docs", "/redoc", "/openapi.json", "/main/docs"):
        assert Visitor(full, "admin").get(path).status_code == 404


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (OURS, 200),
        ({"X-Console": "1", "Origin": "https://airflow.example.com"}, 200),
        ({"X-Console": "1", "Sec-Fetch-Site": "cross-site"}, 403),
        ({"X-Console": "1", "Sec-Fetch-Site": "same-site"}, 403),
        ({"X-Console": "1", "Origin": "https://evil.example.com"}, 403),
        ({"X-Console": "1", "Origin": "null"}, 403),
        ({"X-Console": "1"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 403),
        ({}, 403),
    ],
)
def test_what_changes_something_has_to_come_from_our_own_pages(own, headers, status):
    visitor = Visitor(own, "admin")
    assert visitor.post("/main/webhooks/retry", headers=headers).status_code == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (OURS, 200),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Origin": "https://airflow.example.com"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "https://evil.example.com"}, 403),
        ({}, 403),
    ],
)
def test_a_search_needs_none_of_our_scripts_but_is_never_sent_by_another_site(
    visitor, headers, status
):
    answer = visitor.post("/main/customers", {"wanted": "Amy"}, headers=headers, partial=False)
    assert answer.status_code == status
    assert ("amy@birds-sanctuary.com" in answer.text) == (status == 200)


def test_what_changes_something_is_never_a_get(visitor):
    for page in PAGES:
        if page.method == "POST" and page.path != "/customers":
            path = page.path.replace("{id:row}", "1").replace("{system}", "quickbooks")
            assert visitor.get(f"/main{path}").status_code in (404, 405), path


READS = re.compile(r'(?:query|form)\.get\("(\w+)"|_day\(visit, "(\w+)"\)|(?:query|form)\["(\w+)"\]')
PARAMETERS = {
    *audit._TEXTS,
    *customer_list.FILTERS,
    *(
        name
        for file in Path(audit.__file__).parent.glob("*.py")
        for found in READS.findall(file.read_text())
        for name in found
        if name
    ),
}
"""Every parameter that a page reads from its URL or form."""

ODD = {
    "NUL": "\0",
    "NUL inside": "a\0b",
    "first day": "0001-01-01",
    "last day": "9999-12-31",
    "no day": "2026-02-30",
    "first moment": "0001-01-01T00:00:00+14:00",
    "last moment": "9999-12-31T23:59:59.999999-12:00",
    "largest number": "9" * 18,
    "too large": "9" * 5000,
    "negative": "-1",
    "other digits": "\N{ARABIC-INDIC DIGIT THREE}",
    "list": "[]",
    "pattern": "%_\\",
    "quotes": "\"'`",
    "long": "x" * 5000,
    "empty": "",
}


LONGEST_QUERY = 60_000
"""The client refuses addresses of 64 kB."""


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_no_page_fails_on_an_odd_value_of_any_parameter(full, odd):
    assert {"before", "after", "state", "kind", "key", "since", "until", "wanted"} < PARAMETERS
    visitor = Visitor(full, "admin", replay=lambda *_, **__: Started(said="Started."))
    for system in CONSENT_PAGES:  # so that the pages behind them are reached
        visitor.http.cookies.set(f"{COOKIE}_{system}", "ours")
    odd_value = odd[: LONGEST_QUERY // (len(PARAMETERS) + 2)]
    consent = ("code", "realmId")
    given = dict.fromkeys((*PARAMETERS, *consent), odd_value) | {"state": "ours"}
    for page, values in itertools.product(PAGES, (given, given | {"state": odd_value})):
        usual = f"/main{page.path}"
        for name, value in EXAMPLES.items():
            usual = usual.replace(name, value)
        odd_path = re.sub(r"\{[^}]*\}", quote(odd, safe=""), f"/main{page.path}")
        for path in dict.fromkeys((usual, odd_path)):
            if page.method == "GET":
                answer = visitor.get(f"{path}?{urlencode(values)}")
            else:
                answer = visitor.post(path, values)
            assert answer.status_code < 500, (page.method, path[:80], answer.text)


def test_an_audit_until_the_last_day_of_the_calendar_has_every_row(full, visitor):
    rows = re.compile(r"/audit/(\d+)")
    every = rows.findall(visitor.get("/main/audit").text)
    assert every
    assert rows.findall(visitor.get("/main/audit?until=9999-12-31").text) == every
    assert rows.findall(visitor.get("/main/audit?since=0001-01-01").text) == every
    assert not rows.findall(visitor.get("/main/audit?since=9999-12-31").text)
    assert not rows.findall(visitor.get("/main/audit?customer_id=%00").text)


def test_a_form_too_large_is_refused(visitor):
    assert visitor.post("/main/customers", {"wanted": "x" * 70_000}).status_code == 413


def test_an_unknown_sync_is_not_there(visitor):
    assert visitor.get("/other").status_code == 404


def test_viewers_are_not_offered_what_they_may_not_do(full):
    page = Visitor(full, "viewer").page("/main/webhooks?state=dead")
    assert "Try all of these again" not in page
    assert "Setup" not in page


# ── customers ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        ("amy@birds-sanctuary.com", ["Amy"]),
        ("  AMY@Birds-Sanctuary.com ", ["Amy"]),
        ("shared@birds-sanctuary.com", ["Bo", "Cy"]),
        ("muller", ["Amy"]),
        ("MÜLL", ["Amy"]),
        ("müller amel", ["Amy"]),
        ("nobody at all", []),
        ("100%", []),
        ("stranger@elsewhere.org", []),
    ],
)
def test_customers_are_found_by_address_and_by_any_part_of_their_name(visitor, wanted, names):
    found = visitor.post("/main/customers", {"wanted": wanted}).text
    assert re.findall(r"<strong>([^<]*)</strong>", found) == names


def test_a_customer_is_found_by_quickbooks_id(full, visitor):
    found = visitor.post("/main/customers", {"wanted": full.ids["Di"]}).text
    assert re.findall(r"<strong>([^<]*)</strong>", found) == ["Di"]


def test_a_contact_that_is_no_customers_is_found_by_its_address(visitor):
    found = visitor.post("/main/customers", {"wanted": "nobody@elsewhere.org"}).text
    assert "without a customer" in words_of(found)
    (link,) = re.findall(rf'href="{PREFIX}(/main/contacts/[0-9a-f]+)"', found)
    assert "Contacts without a customer stay unchanged." in visitor.page(link)


def test_no_page_has_personal_data_in_an_address(full, visitor):
    pages = [visitor.post("/main/customers", {"wanted": "amy@birds-sanctuary.com"}).text]
    pages += [visitor.get(f"/main{path}").text for path in ("", "/customers", "/audit", "/plans/1")]
    for page in pages:
        for link in re.findall(r'(?:href|action|hx-\w+)="([^"]*)"', page):
            assert "@" not in link
            assert "birds" not in link


def test_a_customers_page_says_why_the_contact_is_in_its_state(full, visitor):
    page = visitor.page(f"/main/customers/{full.ids['Amy']}")
    assert "It is a contact" in page
    assert "Status: Unsubscribed. The person unsubscribed in Mailchimp on" in page
    assert "saying “Too many mails”" in page


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Di", "It is not a contact: the customer has no e-mail address in QuickBooks"),
        ("Ed", "It is not a contact: the customer is inactive in QuickBooks"),
        ("Cy", "is shown instead: several customers share the address"),
        ("Bo", "Status: Subscribed. This sync created it on"),
    ],
)
def test_it_says_why_in_every_other_case(full, visitor, name, said):
    assert said in visitor.page(f"/main/customers/{full.ids[name]}")


def test_it_says_who_archived_a_contact_that_we_wrote_if_no_event_tells(own):
    """A write can meet a contact that was archived meanwhile: its response says so, no event does."""
    with own.database.begin() as connection:
        connection.execute(
            text("""UPDATE ml_connector.contacts SET status = 'archived', archived_by = 'marketer'
                    WHERE status = 'subscribed' AND owner = :id"""),
            {"id": own.ids["Bo"]},
        )
    page = Visitor(own, "admin").page(f"/main/customers/{own.ids['Bo']}")
    assert "Status: Archived. A user in Mailchimp archived it." in page
    assert "This sync created it on" not in page


def test_the_timeline_tells_everything_newest_first(full, visitor):
    page = visitor.page(f"/main/customers/{full.ids['Amy']}")
    story = page[page.index("Timeline") :]
    told = [
        "QuickBooks Customer changed",
        "Write Notes done",
        "Update contact done",
        "Create contact done",
        "Decided: create contact",
    ]
    places = [story.index(words) for words in told]
    assert places == sorted(places)
    assert "Unsubscribed" in story
    assert "“Too many mails”" in story


def test_the_timeline_shows_what_differs(full, visitor):
    html = visitor.get(f"/main/customers/{full.ids['Amy']}").text
    assert "<del>Amy</del>" in html
    assert "<ins>Amelie</ins>" in html


def test_the_timeline_is_read_on_a_page_at_a_time(own):
    visitor = Visitor(own, "admin")
    with own.database.begin() as connection:
        connection.execute(
            text("""INSERT INTO ml_connector.audit
                    (id, sync, system, action, reason, customer_id, outcome, attempts, cause, dag_id,
                     run_id, task_id, try_number, actor, seal_id)
                    SELECT nextval('ml_connector.audit_id_seq'), 'main', 'mailchimp',
                           'update', 'fields_changed', :id, 'applied', 1,
                           'change:0', '', '', '', 1, '', n::text FROM generate_series(1, 100) n"""),
            {"id": own.ids["Amy"]},
        )
    path = f"/main/customers/{own.ids['Amy']}"
    html, seen = visitor.get(path).text, []
    for _ in range(10):
        seen += re.findall(r"/audit/(\d+)", html)
        more = re.search(r'hx-get="[^"?]*(\?before=[^"]*)"', html)
        if more is None:
            break
        html = visitor.get(path + more[1], headers={"HX-Request": "true"}).text
    assert len(seen) == len(set(seen))
    assert len(seen) > 100


def test_a_customer_nobody_knows_is_not_there(visitor):
    answer = visitor.get("/main/customers/999999")
    assert answer.status_code == 404
    assert "has not been read by this sync" in words_of(answer.text)


# ── the other pages ──────────────────────────────────────────────────────────────────────────


def test_the_overview_says_that_the_sync_runs_and_what_needs_a_person(visitor):
    page = visitor.page("/main")
    assert "The sync is on schedule." in page
    assert "1 webhook was dead-lettered" in page
    assert "Contacts of customers" in page


def test_the_overview_says_plainly_that_the_sync_has_stopped(own):
    own.ahead += timedelta(days=3)
    assert "The sync has stopped." in Visitor(own, "viewer").page("/main")


def test_the_overview_of_an_empty_sync_says_what_to_do(empty):
    page = Visitor(empty, "viewer").page("/main")
    assert "The sync has not run yet." in page
    for path in ("/customers", "/audit", "/webhooks", "/plans"):
        Visitor(empty, "viewer").page(f"/main{path}")


def test_the_audit_is_filtered(full, visitor):
    page = visitor.page("/main/audit?action=archive")
    assert "Archive contact" in page
    assert "No row matches the filter." in visitor.page("/main/audit?outcome=consent_raised")
    assert "No row matches the filter." in visitor.page("/main/audit?since=2099-01-01")
    assert visitor.get("/main/audit?since=rubbish&before=x&key=zz").status_code == 200


def test_the_audit_of_an_address_is_reached_without_the_address(visitor):
    answer = visitor.post("/main/audit/address", {"email": "amy@birds-sanctuary.com"})
    target = answer.headers["hx-redirect"]
    assert re.fullmatch(rf"{PREFIX}/main/audit\?key=[0-9a-f]{{64}}", target)
    assert "Create contact" in visitor.page(target.removeprefix(PREFIX))


def test_an_audit_row_shows_before_and_after(full, visitor):
    row = next(each for each in full.audit() if each["action"] == "update")
    html = visitor.get(f"/main/audit/{row['id']}").text
    assert "<del>Amy</del>" in html
    assert "Details" in html


def test_an_audit_row_is_replayed_by_those_who_may(full):
    asked = []

    def replay(sync, ids, *, actor):
        asked.append((sync.name, ids, actor))
        return Started(said="Replay has started.", link="/dags/replay_audit/runs/r")

    row = full.audit()[0]["id"]
    user = Visitor(full, "user", replay=replay)
    answer = user.post(f"/main/audit/{row}/replay").text
    assert "Replay has started." in answer
    assert 'href="/dags/replay_audit/runs/r"' in answer
    assert asked == [("main", [row], "user")]
    assert "Replay</button>" in user.get(f"/main/audit/{row}").text
    assert (
        "Replay</button>"
        not in Visitor(full, "viewer", replay=replay).get(f"/main/audit/{row}").text
    )


def test_the_failed_rows_of_a_filter_are_replayed_together(full):
    asked = []

    def replay(sync, ids, *, actor):
        asked.append(ids)
        return Started(said="Replay has started.")

    user = Visitor(full, "user", replay=replay)
    assert user.post("/main/audit/replay?reason=no_such").status_code == 404
    with full.database.begin() as connection:
        connection.execute(
            text("""INSERT INTO ml_connector.audit
                    (id, sync, system, action, reason, customer_id, outcome, attempts, cause, dag_id,
                     run_id, task_id, try_number, actor, seal_id)
                    VALUES (nextval('ml_connector.audit_id_seq'), 'main', 'mailchimp', 'update', 'fields_changed', '1', 'failed', 1,
                            'plan:1', '', 'r', '', 1, '', 'another')""")
        )
    failed = [each["id"] for each in full.audit() if each["outcome"] == "failed"]
    assert "Replay these" in user.get("/main/audit?outcome=failed").text
    assert "Replay these" not in user.get("/main/audit").text
    assert "started" in user.post("/main/audit/replay?outcome=applied").text
    assert sorted(asked[0]) == sorted(failed)


def test_the_audit_is_exported_without_live_formulas(own):
    visitor = Visitor(own, "admin")
    with own.database.begin() as connection:
        connection.execute(
            text("""INSERT INTO ml_connector.audit
                    (id, sync, system, action, reason, customer_id, outcome, attempts, cause, dag_id,
                     run_id, task_id, try_number, actor, seal_id, error)
                    VALUES (nextval('ml_connector.audit_id_seq'), 'main', 'mailchimp', 'update', '=1+1', '@id', 'failed', 1, '+c', '-d',
                            E'\\tr', E'\\rt', 1, '', 's', '=HYPERLINK("http://x")')""")
        )
    answer = visitor.get("/main/audit.csv")
    assert answer.headers["content-disposition"].startswith("attachment;")
    rows = list(csv.DictReader(io.StringIO(answer.content.decode("utf-8-sig"), newline="")))
    assert len(rows) == len(own.audit())
    assert rows[0]["reason"] == "'=1+1"
    for row in rows:
        for cell in row.values():
            assert not cell.startswith(("=", "+", "-", "@", "\t", "\r"))


def test_a_dead_event_is_shown_with_its_body_and_tried_again(own):
    visitor = Visitor(own, "admin")
    html = visitor.get("/main/webhooks?state=dead").text
    assert "QuickBooks does not know the customer" in html
    event = re.search(r"/webhooks/(\d+)\"", html)[1]
    assert "intuitentityid" in visitor.page(f"/main/webhooks/{event}")
    assert "1 event is due again." in visitor.post(f"/main/webhooks/{event}/retry").text
    assert own.inbox().get("dead") is None
    assert "nothing to try again" in visitor.post(f"/main/webhooks/{event}/retry").text


def test_all_events_of_a_state_are_tried_again(own):
    visitor = Visitor(own, "admin")
    assert "1 event is due again." in visitor.post("/main/webhooks/retry", {"state": "dead"}).text
    assert "nothing" in visitor.post("/main/webhooks/retry", {"state": "done"}).text


def test_a_plan_that_waits_shows_what_it_would_overwrite(company):
    company.settings |= {"first_run": "ask", "adopt": "overwrite"}
    company.seed("amy@birds-sanctuary.com", merge_fields={"FNAME": "<Amelia>"})
    company.customer("Amy", "amy@birds-sanctuary.com")
    scope = company.scope()
    planned = company.decide(scope)
    assert guard.hold_plan(scope, plan_id=planned.plan_id) is not None
    page = Visitor(company, "viewer").page(f"/main/plans/{planned.plan_id}")
    assert "First Name: 1 value overwritten" in page
    assert "First Name &lt;Amelia&gt; Amy" in page


def test_a_plan_that_waits_is_named_on_the_overview_and_answered_on_its_page(company):
    company.settings["first_run"] = "ask"
    company.customer("Amy", "amy@birds-sanctuary.com")
    scope = company.scope()
    plan_id = company.decide(scope).plan_id
    guard.hold_plan(scope, plan_id=plan_id)
    visitor = Visitor(company, "admin")
    overview = visitor.get("/main").text
    assert "Waiting for your approval" in overview
    assert f'/main/plans/{plan_id}">Review' in overview
    page = visitor.get(f"/main/plans/{plan_id}").text
    asked = "/api/v2/dags/sync_customers__main/dagRuns/run-1/taskInstances/approval/-1/hitlDetails"
    assert page.count(f'data-question="{asked}"') == 2
    with company.database.begin() as connection:
        fingerprint = approvals.fingerprint(connection, plan_id=plan_id)
    assert page.count(f'data-shown="{fingerprint}"') == 2
    assert "data-answer" not in Visitor(company, "viewer").get(f"/main/plans/{plan_id}").text
    guard.reject(scope, plan_id=plan_id, person="Ann")
    assert "Waiting for your approval" not in visitor.get("/main").text
    assert "data-answer" not in visitor.get(f"/main/plans/{plan_id}").text


def test_a_plan_shows_and_exports_each_contact_with_its_reason(full, visitor):
    page = visitor.page("/main/plans/1")
    assert "new customer" in page
    assert "amy@birds-sanctuary.com" in page
    answer = visitor.get("/main/plans/1.csv")
    rows = list(csv.DictReader(io.StringIO(answer.content.decode("utf-8-sig"))))
    assert {row["customer"] for row in rows} == {"Amy", "Bo", "Ed"}
    assert {row["kind"] for row in rows} == {"create"}


def test_a_preview_says_what_a_run_would_change(own):
    visitor = Visitor(own, "admin")
    own.customer("Flo", "flo@birds-sanctuary.com")
    plan = own.sync(preview=True).plan_id
    page = visitor.page(f"/main/plans/{plan}")
    assert "What a run would change" in page
    assert "flo@birds-sanctuary.com" in page


# ── setup ────────────────────────────────────────────────────────────────────────────────────


def test_setup_shows_the_mapping_with_real_customers(visitor):
    shown = words_of(visitor.post("/main/setup/samples").text)
    assert "Amy amy@finch.org, subscribed" in shown
    assert "First Name Amelia Amelia stays: it was there before" in shown
    assert "Last Name empty &lt;Finch&gt;" in shown


def test_setup_shows_what_is_in_force_and_pings(visitor):
    page = visitor.page("/main/setup")
    assert "https://airflow.example.com/hook" in page
    assert "Register it." in page
    assert "quickbooks answers" in visitor.post("/main/setup/ping/quickbooks").text
    assert visitor.post("/main/setup/ping/other").status_code == 404
    assert "FNAME" in visitor.post("/main/setup/audience").text


SHOWN = {
    "name": ("main", "main"),
    "quickbooks_conn_id": ("books_7", "connection books_7"),
    "mailchimp_conn_id": ("chimp_7", "connection chimp_7"),
    "quickbooks_pool": ("books_pool", "Pools books_pool"),
    "mailchimp_pool": ("chimp_pool", ", chimp_pool"),
    "audience_id": ("a7a7a7a7a7", "a7a7a7a7a7"),
    "schedule": ("17 3 * * *", "17 3 * * *"),
    "timezone": ("Europe/Berlin", "in Europe/Berlin"),
    "new_contact_status": ("pending", STATUS["pending"]),
    "first_run": ("write", "First run writes without asking"),
    "create": ("never", "only existing members are updated"),
    "fields": ({"CITY": "BillAddr.City"}, "CITY BillAddr.City"),
    "tags.static": (["Books"], "Tags Books"),
    "default_country": ("NZ", "without one NZ"),
    "tags.from": ({"customer_type": "Type {value}"}, "Type {value} from customer_type"),
    "on_member_edit": ({"CITY": "restore"}, "CITY: QuickBooks' value comes back"),
    "adopt": ("overwrite", "their fields are overwritten"),
    "groups": ({"Kind": "CustomerTypeRef"}, "Groups Kind from CustomerTypeRef"),
    "marketing_permissions": ({"Email": "order form"}, "permissions Email (order form)"),
    "language": ("Locale", "Language from Locale"),
    "include": ({"customer_type": ["Retail"]}, "Only these customers customer_type: Retail"),
    "exclude": ({"currency": ["EUR", "USD"]}, "Excluded currency: EUR, USD"),
    "include_jobs": (False, "are skipped"),
    "on_inactive": ("tag", "gets the tag"),
    "inactive_tag": ("Gone", "the tag Gone"),
    "activity.write_to": ("attachment", "in an attached note"),
    "activity.show": ("always", "for every customer in the audience"),
    "activity.batch_size": (17, "17 customers a call"),
    "activity.values": (False, "without changed values"),
    "guard.max_archives": (41, "41 archives"),
    "guard.max_archive_share": (0.025, "2.5%"),
    "guard.max_updates": (321, "321 updates"),
    "beside": ({"other_brand": True}, "with other_brand"),
}
"""By setting: a value, and the words that show it."""


def settings_of(model, before=""):
    """Every setting of a sync, as it is named in the file."""
    for name, its in model.model_fields.items():
        kind = {"tags": Tags}.get(name, its.annotation)
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from settings_of(kind, f"{name}.")
        else:
            yield f"{before}{its.alias or name}"


def test_setup_shows_every_setting_as_it_is_in_force(company):
    assert set(settings_of(Sync)) == set(SHOWN)
    values: dict = {}
    for setting, (value, _) in SHOWN.items():
        section, _, key = setting.rpartition(".")
        (values.setdefault(section, {}) if section else values)[key] = value
    company.settings |= values
    page = Visitor(company, "admin").page("/main/setup")
    assert [said for _, said in SHOWN.values() if said.lower() not in page.lower()] == []


def state_of(visitor, system="quickbooks"):
    """Press a Connect button; return the state that the consent page is asked with."""
    answer = visitor.get(f"/main/setup/connect/{system}")
    assert answer.status_code == 303, answer.text
    return re.search(r"state=([\w-]+)", answer.headers["location"])[1]


def test_quickbooks_is_connected_by_one_click_and_one_redirect(visitor):
    state = state_of(visitor)
    back = f"/main/setup/connected?code=c0de&state={state}&realmId=123145"
    assert "Connected to the company Sandbox Company." in visitor.get(back).text
    redirect = f"https://airflow.example.com{PREFIX}/main/setup/connected"
    assert visitor.outside.connected == [("quickbooks_default", "c0de", "123145", redirect)]
    assert "belongs to no open connection attempt" in visitor.get(back).text
    assert len(visitor.outside.connected) == 1


def test_mailchimp_is_connected_by_one_click_and_one_redirect(visitor):
    state = state_of(visitor, "mailchimp")
    back = f"/main/setup/connected/mailchimp?code=c0de&state={state}"
    assert "Connected to the account Sandbox Company." in visitor.get(back).text
    redirect = f"https://airflow.example.com{PREFIX}/main/setup/connected/mailchimp"
    assert visitor.outside.connected == [("mailchimp_default", "c0de", "", redirect)]


def test_both_buttons_are_on_setup_with_their_redirect_addresses(visitor):
    html = visitor.get("/main/setup").text
    for system in ("quickbooks", "mailchimp"):
        assert f'href="{PREFIX}/main/setup/connect/{system}"' in html
    assert f"https://airflow.example.com{PREFIX}/main/setup/connected/mailchimp" in html


@pytest.mark.parametrize("system", ["quickbooks", "mailchimp"])
@pytest.mark.parametrize("query", ["state=forged", "", "state="])
def test_an_answer_that_was_not_asked_for_connects_nothing(visitor, query, system):
    state_of(visitor, system)
    path = "/main/setup/connected" + ("/mailchimp" if system == "mailchimp" else "")
    answer = visitor.get(f"{path}?code=c0de&realmId=1&{query}")
    assert answer.status_code == 400
    assert "belongs to no open connection attempt" in answer.text
    assert visitor.outside.connected == []


def test_the_state_of_one_system_is_none_of_the_other(visitor):
    state = state_of(visitor, "mailchimp")
    answer = visitor.get(f"/main/setup/connected?code=c0de&realmId=1&state={state}")
    assert answer.status_code == 400
    assert visitor.outside.connected == []


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_another_site_cannot_press_connect(visitor, site):
    answer = visitor.get("/main/setup/connect/mailchimp", headers={"sec-fetch-site": site})
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers


def test_a_no_on_a_consent_page_is_told(visitor):
    state = state_of(visitor)
    answer = visitor.get(f"/main/setup/connected?error=access_denied&state={state}")
    assert "access was declined on Intuit&#39;s page" in answer.text
    state = state_of(visitor, "mailchimp")
    answer = visitor.get(f"/main/setup/connected/mailchimp?error=access_denied&state={state}")
    assert "access was declined on Mailchimp&#39;s page" in answer.text


class OnThisMachine(FakeOutside):
    """A console that is reached at 127.0.0.1, as under ``make run``."""

    def base_url(self):
        return "http://127.0.0.1:8080"


def test_on_this_machine_each_system_gets_the_name_it_accepts(company):
    html = Visitor(company, "admin", outside=OnThisMachine()).get("/main/setup").text
    assert f"http://localhost:8080{PREFIX}/main/setup/connected<" in html
    assert f"http://127.0.0.1:8080{PREFIX}/main/setup/connected/mailchimp<" in html


class UnderAPath(FakeOutside):
    """An Airflow that is served under a path of its own."""

    def base_url(self):
        return "https://airflow.example.com/airflow"


def test_under_a_path_of_airflow_redirect_addresses_name_it_once(company):
    outside = UnderAPath()
    at_root = Visitor(company, "admin", outside=outside).http.app
    under = TestClient(Starlette(routes=[Mount("/airflow", at_root)]), base_url="https://a.example")
    html = under.get(f"/airflow{PREFIX}/main/setup").text
    assert f"https://airflow.example.com/airflow{PREFIX}/main/setup/connected<" in html
    assert "/airflow/airflow" not in html
    assert f'href="{PREFIX}' not in html


class BehindATunnel(OnThisMachine):
    """The same, with a tunnel to the receiver."""

    def public_url(self):
        return "https://tunnel.example.com"


def test_with_a_tunnel_both_systems_redirect_to_it_and_send_webhooks_there(company):
    visitor = Visitor(company, "admin", outside=BehindATunnel())
    html = visitor.get("/main/setup").text
    assert f"https://tunnel.example.com{PREFIX}/main/setup/connected<" in html
    assert f"https://tunnel.example.com{PREFIX}/main/setup/connected/mailchimp<" in html
    assert "https://tunnel.example.com/hook" in html
    state = state_of(visitor, "mailchimp")
    visitor.get(f"/main/setup/connected/mailchimp?code=c0de&state={state}")
    ((_, _, _, redirect),) = visitor.outside.connected
    assert redirect.startswith("https://tunnel.example.com/")


def test_a_redirect_to_the_machines_other_name_is_passed_on_once(company):
    visitor = Visitor(company, "anonymous", outside=OnThisMachine())
    back = f"{PREFIX}/main/setup/connected?code=c0de&state=s&realmId=1"
    answer = visitor.http.get(f"http://localhost:8080{back}")
    assert answer.headers["location"] == f"http://127.0.0.1:8080{back}&hop=1"
    assert visitor.http.get(answer.headers["location"]).status_code == 401


def test_a_connect_given_up_under_one_name_does_not_end_the_next_under_the_other(company):
    visitor = Visitor(company, "admin", outside=OnThisMachine())
    setup = f"{PREFIX}/main/setup"
    for system in ("quickbooks", "mailchimp"):
        visitor.http.get(f"http://127.0.0.1:8080{setup}/connect/{system}")
    page = visitor.http.get(f"http://localhost:8080{setup}/connect/mailchimp").headers["location"]
    state = re.search(r"state=([\w-]+)", page)[1]
    back = f"{setup}/connected/mailchimp?code=c0de&state={state}"
    answer = visitor.http.get(f"http://127.0.0.1:8080{back}")
    assert answer.status_code == 303
    assert answer.headers["location"] == f"http://localhost:8080{back}&hop=1"
    assert visitor.http.get(answer.headers["location"]).status_code == 200


GONE = (
    "quickbooks_default: QuickBooks no longer accepts the refresh token (invalid_grant); run"
    " `ml-connector connect quickbooks` to connect QuickBooks again (request 1-abc)"
)
SAID = "QuickBooks no longer accepts the refresh token (invalid_grant)"
BUTTON = f'href="{PREFIX}/main/setup/connect/quickbooks"'


def refuse(company, cause="needs_reauth:quickbooks_default", message=GONE):
    """Have a system take our access away, as a task would have told it; the run failed."""
    with company.database.begin() as connection:
        alert = "INSERT INTO ml_connector.alerts (cause, message) VALUES (:cause, :message)"
        connection.execute(text(alert), {"cause": cause, "message": message})
        error = message.partition(": ")[2]
        run = "UPDATE ml_connector.plans SET state = 'failed', error = :error WHERE id = 2"
        connection.execute(text(run), {"error": error})


class Ending(FakeOutside):
    """A connection whose token, if it were good, had years to go."""

    def token_ends(self, conn_id):
        end = datetime(2031, 10, 1, tzinfo=UTC)
        return TokenExpiry(access=end, refresh=end, for_good=end)


def test_a_refused_account_is_one_message_with_its_button_and_no_end_date(own):
    refuse(own)
    visitor = Visitor(own, "admin", outside=Ending())
    html = visitor.get("/main").text
    page = words_of(html)
    assert page.count(SAID) == 1
    assert html.count(BUTTON) == 1
    assert "ml-connector connect" not in page
    assert "Needs attention" not in page or SAID not in page.partition("Needs attention")[2]
    assert "in 5" not in page.partition("QuickBooks connection ends")[2][:40]
    assert "not connected" in page.partition("QuickBooks connection ends")[2][:60]


def test_a_refused_account_is_told_alike_on_setup_and_on_the_runs_page(own):
    refuse(own)
    visitor = Visitor(own, "admin", outside=Ending())
    for path in ("/main/setup", "/main/plans/2"):
        html = visitor.get(path).text
        assert SAID in words_of(html)
        assert BUTTON in html
        assert "ml-connector connect" not in words_of(html)
    assert SAID in visitor.page("/main/plans")
    assert BUTTON not in Visitor(own, "viewer", outside=Ending()).get("/main").text


def test_a_refused_mailchimp_account_has_its_own_button(own):
    said = "Mailchimp does not accept this token or key (401); run `ml-connector connect mailchimp`"
    refuse(own, "needs_reauth:mailchimp_default", f"mailchimp_default: {said}, or check")
    html = Visitor(own, "admin").get("/main").text
    assert "Mailchimp does not accept this token or key (401)." in words_of(html)
    assert f'href="{PREFIX}/main/setup/connect/mailchimp"' in html
    assert BUTTON not in html


def test_after_connecting_again_the_failed_run_asks_for_nothing(own):
    refuse(own)
    with own.database.begin() as connection:
        connection.execute(text("UPDATE ml_connector.alerts SET ended_at = now()"))
    visitor = Visitor(own, "admin", outside=Ending())
    html = visitor.get("/main").text
    assert "QuickBooks was connected again since" in html
    assert BUTTON not in html
    assert BUTTON not in visitor.get("/main/plans/2").text


class Unconnected(FakeOutside):
    """Accounts that nobody has connected yet."""

    def token_ends(self, conn_id):
        said = "QuickBooks is not connected: there is no Variable q; run `ml-connector connect"
        return TokenExpiry(problem=f"{said} quickbooks`", connected=False)

    def key_problem(self, conn_id):
        return "Mailchimp is not connected: m has no password; run `ml-connector connect mailchimp`"


def test_a_new_sync_says_that_it_waits_for_both_accounts_with_both_buttons(company):
    html = Visitor(company, "admin", outside=Unconnected()).get("/main").text
    page = words_of(html)
    assert "The first sync waits until both accounts are connected." in page
    assert "QuickBooks and Mailchimp are not connected yet." in page
    assert "Sync now" not in page
    assert html.count("/setup/connect/") == 2


def steps_of(html: str) -> list[str]:
    """The steps of the Setup page, one a line."""
    (found,) = re.findall(r"<ol.*?</ol>", html, re.DOTALL)
    return [words_of(each).strip() for each in found.split("</li>")[:-1]]


def test_setup_begins_with_the_steps_and_shows_what_to_do_next_alone(company):
    company.settings |= {"audience_id": NO_AUDIENCE, "first_run": "ask"}
    html = Visitor(company, "admin", outside=Unconnected()).get("/main/setup").text
    register = "Register the redirect address below with your Intuit app, then press the button."
    assert steps_of(html) == [
        f"Connect QuickBooks next {register} Connect QuickBooks",
        "Connect Mailchimp",
        "Choose the audience and the consent",
        "Switch on the DAGs done",
        "Approve the first plan",
        "Set up webhooks optional Without webhooks, changes wait for the next run.",
    ]
    page = words_of(html)
    assert "Audience not chosen yet, connection mailchimp_default" in page
    assert "New contacts not chosen yet" in page
    assert "not-chosen" not in page
    assert "no Variable" not in page
    assert "/setup/audience" not in html
    assert "/setup/samples" not in html


class Off(FakeOutside):
    """Both accounts are connected, and the sync's DAG is paused."""

    def paused(self, sync):
        return True

    def paused_dags(self, sync):
        return ["process_webhooks", "sync_customers__main"]


def test_each_page_names_the_same_next_step_until_the_first_run(company):
    company.settings |= {"audience_id": NO_AUDIENCE, "first_run": "ask"}
    visitor = Visitor(company, "admin", outside=Off())
    first, second, third, *_ = steps_of(visitor.get("/main/setup").text)
    assert (first, second) == (
        "Connect QuickBooks done",
        "Connect Mailchimp done",
    )
    assert third.startswith("Choose the audience and the consent next Run ml-connector init .")
    page = visitor.page("/main")
    assert "Choose the audience and the consent of new contacts." in page
    assert "stop make run and run make init ." in page
    assert "paused" not in page
    assert "Sync now" not in page

    company.settings["audience_id"] = "a7a7a7a7a7"
    company.settings["new_contact_status"] = "pending"
    *_, chosen, on, _, _ = steps_of(visitor.get("/main/setup").text)
    assert chosen.endswith("done a7a7a7a7a7, new contacts: Pending.")
    assert on.endswith("next Paused in Airflow: process_webhooks, sync_customers__main.")
    page = visitor.page("/main")
    assert "The sync is not switched on yet. Switch on its DAG sync_customers__main" in page
    assert "Sync now" not in page

    ready = Visitor(company, "admin")
    *_, last, _ = steps_of(ready.get("/main/setup").text)
    assert last.startswith("Approve the first plan next Press Sync now on the overview.")
    page = ready.page("/main")
    assert "Nothing is written before you approve the plan." in page
    assert "Press Sync now" in page


def test_a_sync_that_has_run_shows_no_steps(visitor):
    assert "<ol" not in visitor.get("/main/setup").text


class Refusing(FakeOutside):
    """A QuickBooks that takes our access away while a page asks it."""

    def ping(self, sync, system):
        raise NeedsReauth(GONE.partition(": ")[2])

    def drift(self, sync):
        raise NeedsReauth(GONE.partition(": ")[2])


@pytest.mark.parametrize("path", ["/main/setup/ping/quickbooks", "/main/drift/read"])
def test_an_account_refused_while_a_page_asks_is_told_alike(company, path):
    html = Visitor(company, "admin", outside=Refusing()).post(path).text
    assert SAID in words_of(html)
    assert BUTTON in html
    assert "ml-connector connect" not in words_of(html)


@pytest.mark.parametrize(
    ("error", "said", "connect"),
    [
        (GONE.partition(": ")[2], SAID, "quickbooks"),
        ("The Variable has no refresh_token; put it back, or run `ml-connector connect quickbooks`",
         "The Variable has no refresh_token; put it back", "quickbooks"),
        ("push failed: out of order", "push failed: out of order", ""),
        (None, "", ""),
    ],
)  # fmt: skip
def test_an_error_shows_the_button_in_place_of_the_command(error, said, connect):
    assert fault(error) == Fault(said, connect)


def test_drift_is_read_on_request_and_its_csv_runs_no_formula(visitor):
    assert "Read the audience now" in visitor.page("/main/drift")
    found = words_of(visitor.post("/main/drift/read").text)
    assert "=Amelie" in found
    assert "the edit stays" in found
    csv = visitor.get("/main/drift.csv")
    assert "'=Amelie" in csv.text
    assert ",=A" not in csv.text


def test_a_users_value_in_mailchimp_is_shown_and_can_be_used_or_taken_back(company):
    amy = company.customer("Amy", "amy@edits.org")
    company.sync()
    company.person("amy@edits.org", "profile", merge_fields={"FNAME": "Amelie"})
    company.sync()
    reader, editor = Visitor(company, "viewer"), Visitor(company, "admin")
    page = editor.page(f"/main/customers/{amy}")
    assert "First Name in Mailchimp" in page
    assert "Use in QuickBooks" in page
    assert "Use in QuickBooks" not in reader.page(f"/main/customers/{amy}")
    assert reader.post(f"/main/customers/{amy}/use/FNAME").status_code == 403
    assert "QuickBooks has the value" in editor.post(f"/main/customers/{amy}/use/FNAME").text
    assert editor.outside.connected == [(amy, "FNAME", "admin")]
    key = company.vault.email_key("amy@edits.org").hex()
    asked = editor.post(f"/main/contacts/{key}/restore/FNAME")
    assert "brings QuickBooks&#39; value back" in asked.text
    assert company.audit()[-1]["actor"] == "admin"
    assert editor.post(f"/main/contacts/{key}/restore/LNAME").status_code == 404
