"""`ml-connector init`: questions, a mapping shown with real customers, a file with comments."""

from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from sqlalchemy import text

from ml_connector.errors import SettingsError, Unavailable
from ml_connector.settings import NO_AUDIENCE, load_syncs
from ml_connector.sync.samples import SampleContact, SampleField
from ml_connector_airflow.commands import init
from ml_connector_airflow.commands.init import Given, Initialiser
from tests.integration.company import AUDIENCE

AMY, BEN = "amy@first-file.org", "ben@first-file.org"
ANSWERS = (
    *("--consent", "pending", "--schedule", "0 3 * * *", "--timezone", "Europe/Berlin"),
    *("--tag", "QuickBooks", "--tag", "Customers"),
)


@pytest.fixture
def firm(company):
    """Amy is in the audience under another first name, Ben is not."""
    company.seed(AMY, merge_fields={"FNAME": "Amelia"})
    company.customer("Amy", AMY, FamilyName="Finch", CompanyName="Finch Ltd")
    company.customer("Ben", BEN, PrimaryPhone={"FreeFormNumber": "(650) 555-3311"})
    company.clear_journals()
    return company


def audience_of(company) -> str:
    return str(company.mailchimp_control("GET", "audiences")["audiences"][0]["name"])


def test_a_new_file_has_what_was_asked_and_comments_and_nothing_is_written_elsewhere(
    firm, run, tmp_path
):
    file = tmp_path / "new" / "syncs.yaml"
    code, said = run(
        "init",
        "--file",
        str(file),
        *ANSWERS,
        "--yes",
        "--no-rehearsal",
        "--audience",
        audience_of(firm),
    )
    assert code == 0, said
    (sync,) = load_syncs(file).values()
    assert (sync.name, sync.audience_id) == ("main", AUDIENCE)
    assert (sync.new_contact_status, sync.schedule) == ("pending", "0 3 * * *")
    assert sync.timezone == "Europe/Berlin"
    assert sync.tags.static == ("QuickBooks", "Customers")
    assert sync.fields["FNAME"] == ("GivenName",)
    assert sync.fields["ADDRESS"] == ("BillAddr",)
    assert sync.fields["COMPANY"] == ("CompanyName",)
    assert "# When a run starts" in file.read_text()
    for told in (
        f"Amy, {AMY}: subscribed",
        "stays: it was there before",
        f"Ben, {BEN}: not in the audience -> pending",
        "(650) 555-3311",
        "Sandbox Company",
    ):
        assert told in said, said
    with firm.database.begin() as connection:
        booked = connection.execute(text("SELECT call, calls FROM ml_connector.api_usage")).all()
    made = len(firm.calls("quickbooks"))
    assert sum(n for call, n in booked if call.startswith("quickbooks.")) == made > 0
    for base in (firm.quickbooks, firm.mailchimp):
        assert firm.control(base, "GET", "journal?write=true")["calls"] == []


def test_consent_has_no_default(firm, run, tmp_path):
    file = tmp_path / "syncs-new.yaml"
    code, said = run("init", "--file", str(file), "--yes", "--no-rehearsal")
    assert (code, "--consent" in said) == (2, True), said
    assert not file.exists()


def test_questions_are_answered_and_only_the_answers_change_a_file(
    firm, run, connected_environment
):
    file = Path(connected_environment["ML_CONNECTOR_SYNCS"])
    before = file.read_text()
    typed = [
        *("1", "1"),  # company, audience
        "pending",
        "COMPANY=DisplayName",
        "Nonsense=Balance",
        "",
        *("", "", ""),  # tags, schedule, time zone as they are
        "y",
    ]
    code, said = run("init", "--no-rehearsal", typed="\n".join(typed) + "\n")
    assert code == 0, said
    assert "Which audience?" in said
    after = file.read_text()
    assert set(after.splitlines()) - set(before.splitlines()) == {
        "    new_contact_status: pending",
        "      COMPANY: DisplayName",
    } | {line for line in after.splitlines() if "audience_id" in line}
    assert "# merge field: QuickBooks attribute" in after


def test_it_ends_with_the_rehearsal(firm, run, connected_environment):
    code, said = run("init", *ANSWERS, "--yes")
    assert code == 0, said
    assert "Neither account was written to: a rehearsal can only read." in said
    assert "1 new contact (1 pending)" in said
    assert firm.statuses() == {AMY: "subscribed"}
    assert load_syncs(Path(connected_environment["ML_CONNECTOR_SYNCS"]))["main"].timezone == (
        "Europe/Berlin"
    )


SHOP, NEWS = {"id": "shop000001", "name": "Shop"}, {"id": "news000001", "name": "News"}


class Account:
    """A Mailchimp account that lists its audiences, or does not respond."""

    def __init__(self, listed):
        self._listed = listed

    def audiences(self):
        if isinstance(self._listed, Exception):
            raise self._listed
        return self._listed


@pytest.fixture
def asking(monkeypatch):
    """Questions about accounts by connection; all are answered by Enter."""

    class Offline(Initialiser):
        @contextmanager
        def _scope(self, sync):
            yield SimpleNamespace(sync=sync)

    def made(accounts, *, yes=True, **given):
        monkeypatch.setattr(init, "connections_of", lambda _kind: list(accounts))
        monkeypatch.setattr(
            init,
            "mailchimp_client",
            lambda scope: Account(accounts[scope.sync.mailchimp_conn_id]),
        )
        return Offline(given=Given(yes=yes, **given), database=None)

    return made


def test_an_account_that_does_not_respond_leads_to_no_other_audience(asking):
    accounts = {"mailchimp_default": [NEWS], "mailchimp_shop": Unavailable("away")}
    with pytest.raises(SettingsError, match=r"shop000001.*mailchimp_shop"):
        asking(accounts)._audience("shop000001", "mailchimp_shop")
    chosen, _ = asking(accounts, audience="News")._audience("shop000001", "mailchimp_shop")
    assert chosen.id == "news000001"


def test_enter_chooses_no_audience_if_that_of_the_file_is_missing(asking, monkeypatch):
    typed = iter(["", "1"])
    monkeypatch.setattr(
        init.typer, "prompt", lambda *_args, default, **_options: next(typed) or default
    )
    accounts = {"mailchimp_default": [NEWS], "mailchimp_shop": Unavailable("away")}
    chosen, _ = asking(accounts, yes=False)._audience("shop000001", "mailchimp_shop")
    assert chosen.id == "news000001"
    assert next(typed, None) is None


def test_a_file_that_leaves_the_audience_open_is_no_missing_audience(asking, capsys):
    chosen, _ = asking({"mailchimp_default": [NEWS]})._audience(NO_AUDIENCE, "")
    assert chosen.id == "news000001"
    assert "was not found" not in capsys.readouterr().out


def test_the_connection_in_the_file_stays_if_several_reach_its_audience(asking):
    accounts = {"mailchimp_default": [SHOP], "mailchimp_shop": [SHOP]}
    chosen, _ = asking(accounts)._audience("shop000001", "mailchimp_shop")
    assert chosen.conn_id == "mailchimp_shop"


def test_a_name_of_two_audiences_chooses_none(asking):
    accounts = {"mailchimp_default": [NEWS], "mailchimp_shop": [SHOP | {"name": "News"}]}
    with pytest.raises(SettingsError, match=r"news000001, shop000001"):
        asking(accounts, audience="News")._audience("", "")


def test_a_customer_is_shown_as_typed_though_it_looks_like_markup(capsys):
    contact = SampleContact(
        customer_id="1",
        name="[/b] Ltd",
        email=AMY,
        status_before="x",
        status_after="x",
        fields=[SampleField("FNAME", "First [/i]", "[/red]x", "[bold]y", "")],
    )
    Initialiser(given=Given(), database=None)._show_sample(contact)
    shown = capsys.readouterr().out
    assert all(each in shown for each in ("[/b] Ltd", "First [/i]", "[/red]x", "[bold]y"))
