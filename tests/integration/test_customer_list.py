"""The customer list: filters, sorting, paging, CSV and command, over one company of every kind."""

import csv
import html
import io
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import text

from ml_connector.console.access import PREFIX
from ml_connector.console.queries import customer_list
from ml_connector.console.queries.customer_list import CHOICES, FILTERS, SORTS, read_filter
from ml_connector.rules.tags import tag_key
from tests.integration.company import Company
from tests.integration.test_console import Visitor, words_of

AT = "birds-sanctuary.com"
TODAY = f"{datetime.now(UTC) - timedelta(days=1):%Y-%m-%d}"
TOMORROW = f"{datetime.now(UTC) + timedelta(days=3):%Y-%m-%d}"


def populate(company: Company) -> None:
    """One customer of each kind; the names say which."""
    company.mailchimp_control("PUT", "settings", {"throttled": [f"throttled@{AT}"]})
    company.seed(f"tagged@{AT}", tags=["VIP"])
    ids = {
        name: company.customer(name, f"{name.lower()}@{AT}", **fields)
        for name, fields in {
            "Reader": {"PrimaryPhone": {"FreeFormNumber": "=415-555-1"}, "FamilyName": "Müller"},
            "Optout": {},
            "Bounced": {"PrimaryPhone": {"FreeFormNumber": "415-555-2"}},
            "Inactive": {},
            "Throttled": {},
            "Tagged": {},
            "Gone": {},
            "Survivor": {},
            "Abroad": {"BillAddr": {"Line1": "1 Road", "City": "X", "Country": "Middle-earth"}},
        }.items()
    }
    company.customer("Shown", f"shared@{AT}")
    company.customer("Sharer", f"shared@{AT}")
    company.customer("Nowhere")
    company.customer("Invalid", "no address")
    company.sync()
    campaign = company.campaign(recipients=[f"reader@{AT}", f"bounced@{AT}", f"shared@{AT}"])
    company.did(campaign, f"reader@{AT}", "open")
    company.person(f"optout@{AT}", "unsubscribe")
    company.person(f"bounced@{AT}", "clean")
    company.edit(ids["Inactive"], Active=False)
    company.quickbooks_control(
        "POST", "customers/merge", {"survivor": ids["Survivor"], "loser": ids["Gone"]}
    )
    company.sync(full_sync=True)
    company.sync(full_sync=True)
    company.customer("Unread", f"unread@{AT}")
    company.fetch(company.scope())  # read, and not decided yet
    with company.database.begin() as connection:
        connection.execute(
            text("""UPDATE ml_connector.activity_blocks SET state = 'refused'
                    WHERE customer_id = :id"""),
            {"id": ids["Optout"]},
        )


@pytest.fixture(scope="module")
def populated(mock_servers, postgres, template_database, tmp_path_factory) -> Iterator[Company]:
    mock_servers.reset()
    postgres.create_database("customer_list", template=template_database)
    company = Company(
        mock_servers=mock_servers,
        database_url=postgres.url("customer_list"),
        folder=tmp_path_factory.mktemp("f"),
    )
    populate(company)
    yield company
    company.close()
    postgres.drop_database("customer_list")


SUBSCRIBED = ["Reader", "Tagged", "Survivor", "Abroad", "Shown"]
EXPECTED = {
    "status=subscribed": SUBSCRIBED,
    "status=unsubscribed": ["Optout"],
    "status=cleaned": ["Bounced"],
    "engagement=bounced": ["Bounced"],
    "engagement=engaged": ["Reader"],
    "decision=linked": ["Sharer"],
    "decision=none": ["Unread"],
    "reason=invalid_email": ["Invalid"],
    "decision=skipped&quickbooks=inactive": ["Inactive"],
    "quickbooks=gone": ["Gone"],
    "audience=in": ["Reader", "Optout", "Bounced", "Tagged", "Survivor", "Abroad", "Shown"],
    "audience=out": ["Inactive", "Throttled", "Nowhere", "Invalid", "Unread"],
    "status=subscribed&engagement=never_opened": ["Shown"],
    "engagement=never_mailed": ["Optout", "Tagged", "Survivor", "Abroad"],
    "waiting=decision": ["Unread"],
    "waiting=mailchimp": ["Throttled"],
    "waiting=refused": ["Optout"],
    "unfit=ADDRESS": ["Abroad"],
    "unfit=any": ["Abroad"],
    "unfit=PHONE": [],
    f"bounced_since={TODAY}": ["Bounced"],
    f"bounced_since={TOMORROW}": [],
    f"unsubscribed_since={TODAY}": ["Optout"],
    f"changed_since={TOMORROW}": [],
    f"status=subscribed&changed_since={TODAY}": SUBSCRIBED,
    "status=cleaned&decision=linked": [],
}


def names_in(page: str) -> list[str]:
    return re.findall(rf'<a href="{PREFIX}/main/customers/\d+">([^<]*)</a>', page)


def test_a_filter_lists_its_customers_and_a_link_holds_its_state(populated):
    visitor = Visitor(populated, "viewer")
    for query, names in EXPECTED.items():
        page = visitor.get(f"/main/customers?{query}").text
        assert names_in(page) == names, query
        assert (f"{len(names)} customer" in words_of(page)) is bool(names), query
        assert (f"?{html.escape(query)}&amp;sort=changed" in page) is bool(names), query
    every = names_in(visitor.get("/main/customers").text)
    assert (len(every), "Gone" in every) == (13, False)
    odd = "status=nobody&changed_since=yesterday&tag=zz&sort=name&after=x&reason="
    assert names_in(visitor.get(f"/main/customers?{odd}").text) == every
    assert "No customer matches the filter." in visitor.page("/main/customers?unfit=PHONE")


def test_every_filter_is_on_the_page_and_the_name_of_a_tag_in_no_url(populated):
    visitor = Visitor(populated, "viewer")
    page = visitor.get("/main/customers").text
    for name in FILTERS:
        assert f'name="{"tag_name" if name == "tag" else name}"' in page, name
    form = {"tag_name": " vip ", "status": "subscribed", "reason": "", "sort": "-changed"}
    answer = visitor.post("/main/customers/filter", form, partial=False)
    key = tag_key("VIP", populated.vault).hex()
    target = f"{PREFIX}/main/customers?status=subscribed&tag={key}&sort=-changed"
    assert (answer.status_code, answer.headers["location"]) == (303, target)
    assert names_in(visitor.get(target.removeprefix(PREFIX)).text) == ["Tagged"]
    ours = tag_key("QuickBooks", populated.vault).hex()
    assert (
        '<option value="' + ours + '">QuickBooks</option>'
        in visitor.get(f"/main/customers?tag={ours}").text
    )


def test_pages_follow_one_another_by_key_in_every_order(populated):
    wanted, _ = read_filter({}, zone=ZoneInfo("UTC"))
    for sort in [*SORTS, *(f"-{name}" for name in SORTS)]:
        seen, after = [], ""
        for _ in range(20):
            with populated.database.begin() as connection:
                page = customer_list.page(
                    connection, sync="main", wanted=wanted, vault=populated.vault, sort=sort,
                    after=after, limit=3,
                )  # fmt: skip
            seen += page.entries
            assert page.total == 13
            after = page.after
            if not after:
                break
        assert len({each.customer_id for each in seen}) == len(seen) == 13, sort
        keys = {
            "id": lambda each: int(each.customer_id),
            "changed": lambda each: each.changed_at,
            "status": lambda each: [*CHOICES["status"], None].index(each.status),
            "engagement": lambda each: [*CHOICES["engagement"], None].index(each.engagement),
            "since": lambda each: each.since or datetime(1970, 1, 1, tzinfo=UTC),
        }[sort.removeprefix("-")]
        values = [keys(each) for each in seen]
        assert values == sorted(values, reverse=sort.startswith("-")), sort


def test_every_figure_of_the_overview_leads_to_as_many_customers(populated):
    visitor = Visitor(populated, "viewer")
    page = visitor.get("/main").text
    figures = re.findall(rf'href="{PREFIX}(/main/customers\?[^"]+)"(.*?)(?=<a |\n)', page)
    assert len(figures) > 12
    for link, said in figures:
        number = re.search(r"\d+", words_of(f"<{said}"))
        listed = names_in(visitor.get(html.unescape(link)).text)
        assert number, (link, said)
        assert len(listed) == int(number[0]), (link, said)


def test_names_are_searched_among_the_customers_of_a_filter(populated):
    visitor = Visitor(populated, "viewer")

    def found(wanted: str, **within: str) -> list[str]:
        answer = visitor.post("/main/customers", {"wanted": wanted, **within}).text
        return re.findall(r"<strong>([^<]*)</strong>", answer)

    assert found("e", status="subscribed") == ["Reader", "Tagged"]
    assert found("reader", status="cleaned") == []
    assert found("gone") == ["Gone"]  # merged ones are explained, too


def test_a_call_list_takes_the_right_of_setup_and_is_audited(populated):
    for role, status in (("viewer", 403), ("user", 403), ("admin", 200)):
        assert Visitor(populated, role).get("/main/customers.csv").status_code == status
    assert "customers.csv" not in Visitor(populated, "viewer").get("/main/customers").text
    before = len(populated.audit())
    answer = Visitor(populated, "admin").get("/main/customers.csv?engagement=bounced&x=1")
    assert answer.headers["content-disposition"].startswith("attachment;")
    (line,) = csv.DictReader(io.StringIO(answer.content.decode("utf-8-sig"), newline=""))
    assert (line["name"], line["phone"], line["status"]) == ("Bounced", "415-555-2", "Cleaned")
    (row,) = populated.audit()[before:]
    assert (row["action"], row["actor"]) == ("export_customers", "admin")
    assert row["after"] == {"filter": {"engagement": "bounced"}, "customers": 1}
    text_of = Visitor(populated, "admin").get("/main/customers.csv").content.decode("utf-8-sig")
    lines = list(csv.reader(io.StringIO(text_of, newline="")))
    assert len(lines) == 14
    assert "'=415-555-1" in [cell for line in lines for cell in line]
    assert not [c for line in lines for c in line if c.startswith(("=", "+", "-", "@", "\t", "\r"))]


def test_the_command_gives_the_same_customers(company, run):
    company.customer("Amy", f"amy@{AT}", PrimaryPhone={"FreeFormNumber": "415-555-3"})
    company.customer("Bo", f"bo@{AT}")
    company.sync()
    company.person(f"amy@{AT}", "clean")
    company.sync(full_sync=True)
    code, said = run("customers", "--engagement", "bounced", "--json")
    assert code == 0, said
    (amy,) = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    assert (amy["name"], amy["phone"], amy["status"]) == ("Amy", "415-555-3", "cleaned")
    code, said = run("customers", "--status", "subscribed", "--tag", "quickbooks", "--csv")
    assert (code, f"Bo,bo@{AT}," in said, "Amy" in said) == (0, True, False), said
    exported = [row for row in company.audit() if row["action"] == "export_customers"]
    assert [bool(row["actor"]) for row in exported] == [True, True]
    code, said = run("customers")
    assert (code, "Amy" in said, "Bo" in said) == (0, True, True), said
    code, said = run("customers", "--status", "nobody")
    assert (code, "--status takes one of subscribed" in said) == (2, True), said
