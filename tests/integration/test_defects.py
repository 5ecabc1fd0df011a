"""A defect costs what it touches: the rest of the run is done, and no text of it shows a person."""

import re

import pytest
from sqlalchemy import text

from ml_connector.errors import ConnectorError, Defect, SettingsError, values_withheld

AMY, BEN = "amy@finch.org", "ben@finch.org"


@pytest.fixture
def broken_push(company):
    """A company whose database refuses what a push stores, in words that show the person."""
    with company.database.begin() as connection:
        connection.execute(
            text("""CREATE FUNCTION ml_connector.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
                    BEGIN IF NEW.pushed_hash IS NOT NULL THEN
                        RAISE EXCEPTION 'amy@finch.org' USING DETAIL = 'Key (Amy)=(amy@finch.org)';
                    END IF; RETURN NEW; END $$""")
        )
    yield company
    with company.database.begin() as connection:
        connection.execute(text("DROP FUNCTION ml_connector.refuse CASCADE"))


def refuse(company):
    with company.database.begin() as connection:
        connection.execute(
            text("""CREATE TRIGGER refuse AFTER INSERT ON ml_connector.contacts
                    FOR EACH ROW EXECUTE FUNCTION ml_connector.refuse()""")
        )


def test_after_a_defect_in_the_push_the_rest_is_done_and_the_run_says_what_failed(broken_push, run):
    company = broken_push
    ben = company.customer("Ben", BEN)
    company.seed("cy@finch.org")
    cy = company.customer("Cy", "cy@finch.org")
    company.sync()
    company.edit(ben, Active=False)
    company.person("cy@finch.org", "unsubscribe")
    company.customer("Amy", AMY)
    refuse(company)
    code, said = run("sync")
    assert code == 1, said
    words = " ".join(said.split())
    assert "The run failed: push failed: a defect in ml-connector: RaiseException at" in words
    assert "None" not in said.splitlines()[-1]
    assert not re.search("finch|Amy", said)
    assert company.statuses()[BEN] == "archived"
    assert "Unsubscribed" in company.record_of(cy)["Notes"]
    with company.database.begin() as connection:
        plan = connection.execute(
            text("SELECT state, error, counts FROM ml_connector.plans ORDER BY id DESC LIMIT 1")
        ).one()
    assert plan.state == "failed"
    assert plan.error.startswith("push failed: a defect")
    assert ["archive", "inactive", "applied", 1] in plan.counts["changes"]


def test_what_needs_a_person_ends_the_run_with_its_own_words(company, run):
    company.customer("Amy", AMY)
    company.mailchimp_control("PUT", "settings", {"api_key": "another-us99"})
    code, said = run("sync")
    assert code == 1, said
    expected = "fetch_customers failed: Mailchimp does not accept this token or key (401)"
    assert expected in " ".join(said.split())
    assert company.statuses() == {}
    assert open_causes(company) == {"needs_reauth:mailchimp_default"}
    company.mailchimp_control("PUT", "settings", {"api_key": company.mailchimp_key})
    code, said = run("sync")
    assert code == 0, said
    assert open_causes(company) == set()


def open_causes(company):
    """Causes of the alerts that have not ended."""
    with company.database.begin() as connection:
        query = "SELECT cause FROM ml_connector.alerts WHERE ended_at IS NULL"
        return set(connection.execute(text(query)).scalars())


@pytest.mark.parametrize(
    "error",
    [KeyError(AMY), ValueError(f"Amy at {AMY}"), AssertionError(AMY), RuntimeError({AMY: 1})],
)
def test_an_unexpected_error_becomes_a_defect_without_its_text(error):
    with pytest.raises(Defect) as raised, values_withheld():
        raise error
    assert str(raised.value).startswith(f"a defect in ml-connector: {type(error).__name__} at")
    assert "finch" not in "".join(map(str, [raised.value, raised.value.__cause__]))
    assert raised.value.__suppress_context__


def test_errors_of_ours_and_signals_pass():
    for error in (SettingsError("said"), KeyboardInterrupt(), SystemExit(1)):
        with pytest.raises(type(error)) as raised, values_withheld():
            raise error
        assert raised.value is error
    assert isinstance(Defect(KeyError("x")), ConnectorError)
