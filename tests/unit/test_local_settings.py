"""What can be set for a local run, and what is said when it is set wrong."""

import pytest

from local.errors import LocalError
from local.settings import NO_AUDIENCE, load, syncs_for_audience
from ml_connector.settings import NO_AUDIENCE as PRODUCT_NO_AUDIENCE

REAL = {
    "QUICKBOOKS_CLIENT_ID": "id",
    "QUICKBOOKS_CLIENT_SECRET": "secret",
    "QUICKBOOKS_REALM_ID": "1",
    "QUICKBOOKS_REFRESH_TOKEN": "token",
    "MAILCHIMP_API_KEY": "key-us1",
    "MAILCHIMP_AUDIENCE_ID": "abc",
    "NEW_CONTACT_STATUS": "pending",
}
APPS = {
    "QUICKBOOKS_CLIENT_ID": "id",
    "QUICKBOOKS_CLIENT_SECRET": "secret",
    "MAILCHIMP_CLIENT_ID": "id",
    "MAILCHIMP_CLIENT_SECRET": "secret",
}


def settings(tmp_path, dotenv: str = "", **environ: str):
    file = tmp_path / ".env"
    file.write_text(dotenv)
    return load({"PATH": "/bin", **environ}, dotenv=file)


def test_without_credentials_the_sandbox_is_used(tmp_path):
    chosen = settings(tmp_path, QUICKBOOKS_PORT="9999")
    assert chosen.sandbox
    assert chosen.credentials.quickbooks_url == "http://127.0.0.1:9999"
    assert chosen.credentials.token_url == "http://127.0.0.1:9999/oauth2/v1/tokens/bearer"


def test_real_credentials_are_read_from_dotenv_and_start_no_sandbox(tmp_path):
    chosen = settings(tmp_path, "\n".join(f"{name}={value}" for name, value in REAL.items()))
    assert not chosen.sandbox
    assert chosen.credentials.refresh_token == "token"
    assert chosen.credentials.mailchimp_url == ""
    assert chosen.audience == "abc"


def test_a_lived_company_has_a_state_folder_and_a_plan_that_nobody_approves(tmp_path):
    chosen = settings(tmp_path, LIVED="1")
    assert (chosen.lived, chosen.approve, chosen.home.name) == (True, False, "lived")
    assert settings(tmp_path, LIVED="0").approve
    with pytest.raises(LocalError, match="LIVED=1 is for the mock servers"):
        settings(tmp_path, LIVED="1", **REAL)


def test_the_shell_wins_over_dotenv_and_empty_counts_as_not_set(tmp_path):
    chosen = settings(tmp_path, "AIRFLOW_PORT=1111\nMAILCHIMP_PORT=2222", AIRFLOW_PORT="3333",
                      MAILCHIMP_PORT="")  # fmt: skip
    assert (chosen.ports.airflow_port, chosen.ports.mailchimp_port) == (3333, 2222)


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"AIRFLOW_PORT": "x"}, "AIRFLOW_PORT is 'x'"),
        ({"AIRFLOW_PORT": "70000"}, "AIRFLOW_PORT is '70000'"),
        ({"AIRFLOW_PORT": "9410"}, "QUICKBOOKS_PORT and AIRFLOW_PORT are both 9410"),
        ({"RUN_TIMEOUT": "long"}, "RUN_TIMEOUT is 'long'"),
        ({"ML_CONNECTOR_SYNCS": "nowhere.yaml"}, "names nowhere.yaml, which is not a file"),
        ({"MAILCHIMP_API_KEY": "key"}, "MAILCHIMP_API_KEY set, but QUICKBOOKS_CLIENT_ID"),
        (REAL | {"QUICKBOOKS_REALM_ID": ""}, "but QUICKBOOKS_REALM_ID missing"),
        (APPS | {"QUICKBOOKS_CLIENT_SECRET": ""}, "but QUICKBOOKS_CLIENT_SECRET missing"),
        (APPS | {"MAILCHIMP_CLIENT_SECRET": ""}, "but MAILCHIMP_CLIENT_SECRET missing"),
        (REAL | {"MAILCHIMP_API_KEY": ""}, r"MAILCHIMP_CLIENT_SECRET \(or MAILCHIMP_API_KEY\)"),
        (REAL | {"MAILCHIMP_AUDIENCE_ID": ""}, "choose an audience: run `make init`"),
        (REAL | {"NEW_CONTACT_STATUS": ""}, "set NEW_CONTACT_STATUS in .env to one of"),
        (REAL | {"NEW_CONTACT_STATUS": ""}, "Or let `make init` ask"),
        (REAL | {"NEW_CONTACT_STATUS": "yes"}, "NEW_CONTACT_STATUS is 'yes'"),
    ],
)
def test_a_wrong_setting_is_named_with_the_fix(tmp_path, environ, words):
    with pytest.raises(LocalError, match=words):
        settings(tmp_path, **environ)


def test_the_keys_of_both_apps_are_enough_to_start_and_connect(tmp_path):
    chosen = settings(tmp_path, **APPS)
    assert not chosen.sandbox
    assert chosen.credentials.mailchimp_client_secret == "secret"
    assert "run `make init`" in chosen.open_question
    audience = {"MAILCHIMP_AUDIENCE_ID": "abc"}
    assert (
        "choose what new contacts agree to" in settings(tmp_path, **APPS, **audience).open_question
    )
    decided = settings(tmp_path, **APPS, **audience, NEW_CONTACT_STATUS="pending")
    assert decided.open_question == ""


@pytest.mark.parametrize("app", ["QUICKBOOKS", "MAILCHIMP"])
def test_one_account_may_be_connected_at_the_start_and_the_other_later(tmp_path, app):
    tokens = {name: value for name, value in REAL.items() if not name.startswith(app)}
    mine = {name: value for name, value in APPS.items() if name.startswith(app)}
    assert not settings(tmp_path, **tokens, **mine).sandbox


def test_blanks_in_copied_keys_and_ids_are_removed(tmp_path):
    given = REAL | {"QUICKBOOKS_REALM_ID": "9341 4500 0001", "MAILCHIMP_API_KEY": " key-us1 "}
    chosen = settings(tmp_path, **given).credentials
    assert (chosen.realm_id, chosen.mailchimp_key) == ("934145000001", "key-us1")


def test_credentials_are_not_shown_by_printing_the_settings(tmp_path):
    assert "secret" not in repr(settings(tmp_path, **REAL))


def test_another_audience_takes_the_shipped_ones_place():
    text = "syncs:\n  main:\n    audience_id: old\n    new_contact_status: any\n"
    wanted = text.replace("old", "new").replace("any", "pending")
    assert syncs_for_audience(text, "main", "new", "pending") == wanted


def test_real_accounts_are_written_to_only_if_that_is_said(tmp_path):
    assert settings(tmp_path).approve
    assert not settings(tmp_path, **REAL).approve
    assert settings(tmp_path, **REAL, APPROVE="1").approve


UNCHOSEN = REAL | {"MAILCHIMP_AUDIENCE_ID": "", "NEW_CONTACT_STATUS": ""}


def test_to_choose_the_settings_takes_accounts_alone(tmp_path):
    (tmp_path / ".env").write_text("")
    chosen = load({"PATH": "/bin", **UNCHOSEN}, dotenv=tmp_path / ".env", choosing=True)
    assert chosen.syncs_file == tmp_path / "syncs.yaml"
    with pytest.raises(LocalError, match="asks real accounts"):
        load({"PATH": "/bin"}, dotenv=tmp_path / ".env", choosing=True)


def test_while_something_is_left_to_choose_the_settings_name_no_audience(tmp_path):
    open_settings = settings(tmp_path, **APPS, MAILCHIMP_AUDIENCE_ID="abc")
    assert "choose what new contacts agree to" in open_settings.open_question
    assert open_settings.audience == NO_AUDIENCE == PRODUCT_NO_AUDIENCE
    done = settings(tmp_path, **APPS, MAILCHIMP_AUDIENCE_ID="abc", NEW_CONTACT_STATUS="pending")
    assert done.audience == "abc"


def test_a_file_that_was_written_by_answers_is_used(tmp_path):
    (tmp_path / "syncs.yaml").write_text("syncs: {}")
    chosen = settings(tmp_path, **UNCHOSEN)
    assert (chosen.syncs_file, chosen.audience) == (tmp_path / "syncs.yaml", None)
    with pytest.raises(LocalError, match="both choose an audience"):
        settings(tmp_path, **REAL)
    assert settings(tmp_path).sandbox


def test_a_sync_that_the_settings_lack_is_named_with_those_they_have():
    with pytest.raises(LocalError, match=r"no sync named harbor in .*; it has: main"):
        syncs_for_audience("syncs: {main: {}}", "harbor", "abc", "pending")


def test_the_settings_know_whether_a_sync_was_named(tmp_path):
    assert settings(tmp_path, SYNC="harbor").sync_named
    assert not settings(tmp_path).sync_named
