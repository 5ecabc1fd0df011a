"""A failover to a standby that lacks the last commits: what was acknowledged heals, or is named."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from ml_connector.errors import NeedsReauth, SettingsError, StorageError
from ml_connector.sync import guard
from ml_connector.wire.transport import Request, Response, Transport
from tests.integration.company import Company
from tests.integration.consent_watch import call_of
from tests.integration.crash_paths import a_day, daily_run
from tests.integration.failover import Replicated, StoredTokens, replicated
from tests.integration.receiving import cloud_event, form, serving
from tests.integration.test_audit_sealed import seal, verify
from tests.integration.test_behaviour_first_run import run
from tests.integration.test_forget import erase, traces
from tests.integration.token_worker import DAY, STRICT
from tests.integration.undoing import audience, last_run, undo

pytestmark = pytest.mark.endurance


@pytest.fixture
def servers() -> Iterator[Replicated]:
    with replicated() as running:
        yield running


@pytest.fixture
def company(servers, mock_servers, tmp_path) -> Iterator[Company]:
    """A company whose database is the primary, whichever that is."""
    mock_servers.reset()
    opened = Company(mock_servers=mock_servers, database_url=servers.url, folder=tmp_path)
    opened.settings["activity"] = {"write_to": "both"}
    yield opened
    opened.close()


def assert_settled(company: Company) -> None:
    """The audit is sound, and another day has nothing to write."""
    company.clear_journals()
    company.sync()
    assert company.writes() == []
    seal(company)
    assert verify(company).findings == []


def notes(company: Company) -> dict[str, str]:
    """What the bookkeeper reads, by customer."""
    found = company.quickbooks_control("GET", "customers")["customers"]
    return {each["DisplayName"]: each.get("Notes", "") for each in found}


def test_webhooks_acknowledged_before_a_failover_are_recovered_by_the_next_daily_run(
    company, servers
):
    """Half of them were processed as well; the standby knows of none."""
    names = ("Edited", "Left", "Out", "Later", "Typed")
    ids = {name: company.customer(name, f"{name.lower()}@firm-mail.net") for name in names}
    company.sync()
    seal(company)
    servers.lag()
    with serving(servers.url) as served:

        def told(name: str) -> None:
            assert served.quickbooks([cloud_event(int(ids[name]))]).status_code == 200

        company.edit(ids["Edited"], FamilyName="Changed")
        company.edit(ids["Left"], Active=False)
        ids["New"] = company.customer("New", "new@firm-mail.net")
        company.person("out@firm-mail.net", "unsubscribe")
        for name in ("Edited", "Left", "New"):
            told(name)
        assert served.mailchimp(form(email="out@firm-mail.net")).status_code == 200
        company.work_off()
        company.edit(ids["Later"], FamilyName="Later")
        told("Later")
        company.person("typed@firm-mail.net", "unsubscribe")
        assert served.mailchimp(form(email="typed@firm-mail.net", id="another")).status_code == 200
        assert company.inbox() == {"done": 4, "pending": 2}
        head = seal(company).head
        servers.fail_over()
        assert company.inbox() == {}
        company.sync()
        assert company.statuses() == {
            "edited@firm-mail.net": "subscribed",
            "left@firm-mail.net": "archived",
            "out@firm-mail.net": "unsubscribed",
            "later@firm-mail.net": "subscribed",
            "typed@firm-mail.net": "unsubscribed",
            "new@firm-mail.net": "subscribed",
        }
        assert company.members()["edited@firm-mail.net"]["merge_fields"]["LNAME"] == "Changed"
        assert company.members()["later@firm-mail.net"]["merge_fields"]["LNAME"] == "Later"
        shown = notes(company)
        assert "nsubscribed" in shown["Out"]
        assert "nsubscribed" in shown["Typed"]
        assert "changed their details" not in shown["Edited"]  # it was our write
        assert_settled(company)
        (missing,) = verify(company, head=head).findings
        assert missing.wrong == "seal missing"
        assert head in str(missing)
        told("New")  # the receiver was never restarted


def test_a_daily_run_that_a_failover_lost_is_done_again_without_a_second_effect(company, servers):
    a_day(company)
    company.clear_journals()
    servers.lag()
    company.sync()
    lost, done = last_run(company), state(company)
    servers.fail_over()
    company.sync()
    assert state(company) == done
    assert company.statuses() == STATUSES_AFTER_A_DAY
    with pytest.raises(SettingsError, match="no run"):
        undo(company, lost)
    assert_settled(company)


@dataclass
class FailsOver:
    """Lets a failover happen with the response to the ``nth`` write."""

    servers: Replicated
    nth: int
    writes: int = 0

    def around(self, system: str, transport: Transport) -> Transport:
        return _Failing(self, system, transport)

    def answered(self, system: str, request: Request) -> None:
        call = call_of(system, request)
        if call is not None and call.writes:
            self.writes += 1
            if self.writes == self.nth:
                self.servers.fail_over()


@dataclass
class _Failing:
    failing: FailsOver
    system: str
    transport: Transport

    def send(self, request: Request) -> Response:
        response = self.transport.send(request)
        self.failing.answered(self.system, request)
        return response


STATUSES_AFTER_A_DAY = {
    "adopted@firm-mail.net": "subscribed",
    "back@firm-mail.net": "subscribed",
    "edited@firm-mail.net": "subscribed",
    "left@firm-mail.net": "archived",
    "moved2@firm-mail.net": "subscribed",
    "moved@firm-mail.net": "archived",
    "new@firm-mail.net": "subscribed",
    "opens@firm-mail.net": "subscribed",
    "out@firm-mail.net": "unsubscribed",
    "travels2@firm-mail.net": "unsubscribed",
    "travels@firm-mail.net": "archived",
}


def state(company: Company) -> dict[str, Any]:
    """Everything that a call done twice would show in."""
    return {
        email: (
            member["status"],
            member["merge_fields"],
            sorted(tag["name"] for tag in member["tags"]),
            [(each["before"], each["after"], each["by"]) for each in member["status_changes"]],
        )
        for email, member in company.members().items()
    }


def test_what_a_failover_lost_is_ours_again_but_archives_count_as_a_marketers(company, servers):
    """Who archived a contact is not to be seen, so it takes the reading that mails nobody anew."""
    a_day(company)
    servers.lag()
    company.sync()
    servers.fail_over()
    company.sync()
    found = company.quickbooks_control("GET", "customers")["customers"]
    ids = {each["GivenName"]: each["Id"] for each in found}
    for each in ids.values():
        company.edit(each, FamilyName="Again")
    company.edit(ids["Left"], Active=True, DisplayName="Left")
    company.sync()
    assert company.decisions()[ids["Left"]][1] == "archived_by_marketer"
    assert company.statuses() == STATUSES_AFTER_A_DAY
    names = {email: member["merge_fields"]["LNAME"] for email, member in company.members().items()}
    archived = {"left@firm-mail.net", "moved@firm-mail.net", "travels@firm-mail.net"}
    assert {email for email, name in names.items() if name == "Again"} == names.keys() - archived
    for each in ids.values():
        company.edit(each, Active=False)
    company.sync()
    assert set(company.statuses().values()) == {"archived"}
    assert_settled(company)


@pytest.mark.parametrize("nth", [1, 2, 3])
def test_a_daily_run_goes_on_across_a_failover(company, servers, nth):
    """It happens with the response to the run's ``nth`` write, and takes all of the run along."""
    a_day(company)
    company.clear_journals()
    company.threads = 1
    servers.lag()
    failing = FailsOver(servers, nth)
    company.around = failing.around
    tasks = daily_run(company)
    task, retried = next(tasks), 0
    while True:
        try:
            result = task()
        except StorageError:
            retried += 1
            result = task()
        try:
            task = tasks.send(result)
        except StopIteration:
            break
    assert failing.writes >= nth
    assert retried == 1
    company.sync()
    assert company.statuses() == STATUSES_AFTER_A_DAY
    assert company.members()["edited@firm-mail.net"]["merge_fields"]["LNAME"] == "Changed"
    assert_settled(company)


@pytest.mark.parametrize("grace", [0, DAY])
def test_a_refresh_token_that_a_failover_lost_needs_a_person_unless_quickbooks_takes_the_former_one(
    company, servers, grace
):
    """Airflow's database has its own server if it is to survive; here it is on the same one."""
    company.tokens = StoredTokens(servers.url, company.tokens.load())
    company.customer("Amy", "amy@firm-mail.net")
    company.sync()
    company.quickbooks_control("PUT", "settings", STRICT | {"grace_seconds": grace})
    company.quickbooks_control("POST", "tokens/expire")
    kept = company.tokens.load().refresh_token
    servers.lag()
    company.sync()
    assert company.tokens.load().refresh_token != kept
    servers.fail_over()
    assert company.tokens.load().refresh_token == kept
    company.quickbooks_control("POST", "tokens/expire")
    company.clear_journals()
    if grace:
        company.sync()
    else:
        for _ in range(2):
            with pytest.raises(NeedsReauth, match="ml-connector connect quickbooks"):
                company.sync()
    calls = company.quickbooks_control("GET", "journal")["calls"]
    redeemed = [call for call in calls if call.get("kind") == "token"]
    assert [call["status"] for call in redeemed] == [200 if grace else 400]
    assert company.statuses() == {"amy@firm-mail.net": "subscribed"}


@pytest.mark.parametrize("delete", [False, True])
def test_a_person_forgotten_before_a_failover_is_not_mailed_again(company, servers, delete):
    amy = company.customer("Amy", "amy@firm-mail.net")
    company.sync()
    servers.lag()
    erase(company, "amy@firm-mail.net", delete=delete)
    left = company.statuses()
    assert left == {"amy@firm-mail.net": "forgotten" if delete else "archived"}
    servers.fail_over()
    company.edit(amy, FamilyName="Changed")
    company.sync()
    company.sync(full_sync=True)
    assert company.statuses() == left
    erase(company, "amy@firm-mail.net", delete=delete)
    assert traces(company, addresses=("amy@firm-mail.net",)) == []


def test_an_approval_that_a_failover_lost_is_asked_for_again(company, servers):
    company.settings["first_run"] = "ask"
    company.customer("Amy", "amy@firm-mail.net")
    scope = company.scope()
    planned = company.decide(scope)
    assert guard.hold_plan(scope, plan_id=planned.plan_id) is not None
    servers.lag()
    guard.approve(scope, plan_id=planned.plan_id, person="Ann")
    servers.fail_over()
    assert run(company) is not None
    assert company.statuses() == {}
    assert run(company, approve=True) is not None
    assert company.statuses() == {"amy@firm-mail.net": "subscribed"}
    assert_settled(company)


def test_an_undo_that_a_failover_lost_stands(company, servers):
    company.customer("Stays", "stays@firm-mail.net", FamilyName="Stayson")
    company.sync()
    amy = company.customer("Amy", "amy@firm-mail.net")
    company.sync()
    servers.lag()
    undo(company, last_run(company))
    undone = audience(company)
    assert undone["amy@firm-mail.net"][0] == "archived"
    servers.fail_over()
    company.edit(amy, FamilyName="Changed")
    company.sync()
    assert audience(company) == undone
    assert_settled(company)
