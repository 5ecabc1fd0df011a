"""The settings file: what is wrong is said with its key and its line."""

import os
from pathlib import Path

import pytest

from ml_connector.errors import SettingsError
from ml_connector.settings import (
    home,
    load_sync,
    load_syncs,
    load_webhooks,
    settings_file,
)
from ml_connector.settings_source import DEFAULT_FILE, Source, find_source

SMALLEST = """syncs:
  main:
    audience_id: f1b2c3d4e5
    new_contact_status: subscribed
    fields: {FNAME: GivenName}
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "syncs.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_shipped_file_is_valid():
    sync = load_sync("main", DEFAULT_FILE)
    assert sync.fields["PHONE"] == ("PrimaryPhone.FreeFormNumber",)
    assert sync.guard.max_archives == 25
    assert sync.activity.write_to == "notes"


def test_the_smallest_file_gets_every_default(tmp_path):
    sync = load_sync("main", written(tmp_path, SMALLEST))
    assert (sync.quickbooks_conn_id, sync.mailchimp_conn_id) == (
        "quickbooks_default",
        "mailchimp_default",
    )
    assert (sync.on_inactive, sync.include_jobs, sync.inactive_tag) == ("archive", True, "Inactive")
    assert (sync.schedule, sync.timezone, sync.tags.static) == ("0 4 * * *", "UTC", ())


def test_a_merge_field_may_have_a_ranked_list_of_sources(tmp_path):
    text = SMALLEST.replace("GivenName", "[GivenName, DisplayName]")
    assert load_sync("main", written(tmp_path, text)).fields == {
        "FNAME": ("GivenName", "DisplayName")
    }


def edited(old: str, new: str) -> str:
    assert old in SMALLEST
    return SMALLEST.replace(old, new)


STATUS = "    new_contact_status: subscribed\n"
FIELDS = "    fields: {FNAME: GivenName}\n"


def with_line(line: str) -> str:
    return SMALLEST + f"    {line}\n"


@pytest.mark.parametrize(
    ("line", "words", "text"),
    [
        (2, "new_contact_status: is missing: it states the legal basis", edited(STATUS, "")),
        (4, "new_contact_status: .*subscribed.*pending", edited("subscribed", "cleaned")),
        (2, "audience_id: is missing", edited("    audience_id: f1b2c3d4e5\n", "")),
        (2, "fields: is missing", edited(FIELDS, "")),
        (6, "audience: is not a known setting", with_line("audience: x")),
        (6, "guard.max_archive: is not a known setting", with_line("guard: {max_archive: 3}")),
        (7, "guard.max_archives: ", with_line("guard:\n      max_archives: many")),
        (6, "guard.max_archives: ", with_line("guard: {max_archives: -1}")),
        (6, "guard.max_archive_share: ", with_line("guard: {max_archive_share: 10}")),
        (6, "activity.write_to: ", with_line("activity: {write_to: everywhere}")),
        (6, "on_inactive: ", with_line("on_inactive: delete")),
        (6, "include_jobs: ", with_line("include_jobs: perhaps")),
        (6, "schedule: 'daily at 2' is no cron", with_line("schedule: daily at 2")),
        (6, "schedule: .* is no cron", with_line('schedule: "61 2 * * *"')),
        (6, "timezone: 'Berlin' is no time zone", with_line("timezone: Berlin")),
        (6, "timezone: .*is no time zone", with_line("timezone: ../../etc/passwd")),
        (5, "'Vorname' is no merge field tag", edited("FNAME:", "Vorname:")),
        (5, "'FIRST_NAME_X' is no merge field tag", edited("FNAME:", "FIRST_NAME_X:")),
        (5, "FNAME needs at least one", edited("GivenName", "[]")),
        (5, "fields", edited("{FNAME: GivenName}", "[FNAME]")),
        (5, "fields", edited("GivenName", "7")),
        (3, "audience_id", edited("f1b2c3d4e5", '""')),
        (3, "audience_id", edited("f1b2c3d4e5", "1234567890")),
        (6, "audience_id is a duplicate key", with_line("audience_id: other")),
        (7, "FNAME is a duplicate key", edited("{FNAME: GivenName}", "\n      FNAME: A\n      FNAME: B")),
        (2, "'Main Street' is no sync name", edited("main:", "Main Street:")),
        (2, "'7' is no sync name|syncs", edited("main:", "7:")),
        (2, "syncs.main", "syncs:\n  main:\n"),
        (2, "syncs.main", "syncs:\n  main: [a, b]\n"),
        (1, "syncs", "syncs: {}\n"),
        (1, "syncs", "syncs:\n"),
        (1, "syncs: is missing", "{}\n"),
        (1, "sync: is not a known setting|syncs: is missing", SMALLEST.replace("syncs:", "sync:")),
        (1, "the file", ""),
        (1, "the file", "# only a comment\n"),
        (1, "the file", "just text\n"),
        (1, "the file", "- a\n- b\n"),
        (6, "name: is not a known setting", with_line("name: other")),
    ],
)  # fmt: skip
def test_a_wrong_setting_is_named_with_its_line(line, words, text, tmp_path):
    path = written(tmp_path, text)
    with pytest.raises(SettingsError, match=words) as refused:
        load_syncs(path)
    assert str(refused.value).startswith(f"{path}, line {line}: ")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "text",
    ["syncs: [", "syncs:\n\tmain: {}", "a: b: c", "syncs: &x {main: *y}", "x: !!python/object:os {}"],
)  # fmt: skip
def test_what_is_no_yaml_is_said_to_be_none_in_one_line(text, tmp_path):
    path = written(tmp_path, text)
    with pytest.raises(SettingsError, match=r"is not valid YAML: line \d") as refused:
        load_syncs(path)
    assert "\n" not in str(refused.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(SettingsError, match=r"absent\.yaml cannot be read"):
        load_syncs(tmp_path / "absent.yaml")


def test_a_file_that_is_no_text_is_named(tmp_path):
    path = tmp_path / "syncs.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SettingsError, match=r"syncs\.yaml cannot be read"):
        load_syncs(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_that_may_not_be_read_is_named(tmp_path):
    path = written(tmp_path, SMALLEST)
    path.chmod(0)
    with pytest.raises(SettingsError, match="cannot be read"):
        load_syncs(path)


def test_a_folder_in_the_place_of_the_file_is_named(tmp_path):
    with pytest.raises(SettingsError, match="cannot be read"):
        load_syncs(tmp_path)


def test_an_unknown_sync_lists_the_known_ones(tmp_path):
    path = written(tmp_path, SMALLEST)
    with pytest.raises(SettingsError, match=r"no sync named .shop. in .*; known: main"):
        load_sync("shop", path)


def test_the_environment_names_the_file_and_the_home():
    assert settings_file({"ML_CONNECTOR_SYNCS": "/etc/syncs.yaml"}) == Path("/etc/syncs.yaml")
    assert settings_file({"ML_CONNECTOR_SYNCS": ""}) == DEFAULT_FILE
    assert home({"ML_CONNECTOR_HOME": "/var/lib/ml"}) == Path("/var/lib/ml")
    assert home({}) == Path(".state")


@pytest.mark.parametrize(
    ("lines", "line", "said"),
    [
        ('tags: [""]', 4, "tags.static: '' is no tag"),
        ("tags: {from: {colour: Blue}}", 4, "'colour' is no attribute"),
        ('tags: {from: {job: "{value}"}}', 4, "job is true or false"),
        ('tags: {from: {currency: "{name}"}}', 4, "only {value} may be in braces"),
        ('tags: {from: {BalanceWithJobs: "owes {value}"}}', 4, "may not leave QuickBooks"),
        ("tags: {from: {BillAddr.Lat: Here}}", 4, "known: BillAddr.City"),
        ("include: {customer_type: []}", 4, "customer_type needs at least one name"),
        ("exclude: {colour: [Blue]}", 4, "exclude.colour"),
        ("groups: {Owes: Balance}", 4, "Balance may not leave QuickBooks"),
        ("groups: {Owes: '{GivenName} {Balance}'}", 4, "Balance may not leave QuickBooks"),
        ("groups: {' ': Locale}", 4, "a category of groups has a name"),
        ("groups: {Region: [Locale]}", 4, "groups.Region"),
        ("marketing_permissions: {Email: ''}", 4, "'Email' needs its legal basis in words"),
        ("marketing_permissions: {Email: true}", 4, "marketing_permissions.Email"),
        ("marketing_permissions: [Email]", 4, "marketing_permissions"),
        ("language: Balance", 4, "Balance may not leave QuickBooks"),
        ("include: {GivenName: [Amy]}", 4, "include.GivenName"),
        ("include: {CustomField: [Amy]}", 4, "'CustomField' is no attribute to filter by"),
        ("include: {'CustomField[]': [Amy]}", 4, "is no attribute to filter by"),
        ("tags: {from: {CustomField: Here}}", 4, "is written CustomField[Its name]"),
        ("beside: {other: true}", 4, "beside: is not a known setting"),
    ],
)
def test_a_wrong_rule_for_customers_is_refused_with_its_line(tmp_path, lines, line, said):
    file = tmp_path / "syncs.yaml"
    file.write_text(
        "syncs:\n  main:\n    audience_id: a\n"
        f"    {lines}\n    new_contact_status: pending\n    fields: {{FNAME: GivenName}}\n",
        encoding="utf-8",
    )
    with pytest.raises(SettingsError) as caught:
        load_syncs(file)
    assert f"line {line}: syncs.main." in str(caught.value)
    assert said in str(caught.value)


def test_a_rule_for_edits_of_a_field_that_is_not_mapped_is_refused(tmp_path):
    file = tmp_path / "syncs.yaml"
    file.write_text(
        "syncs:\n  main:\n    audience_id: a\n    new_contact_status: pending\n"
        "    fields: {FNAME: GivenName}\n    on_member_edit: {LNAME: keep}\n",
        encoding="utf-8",
    )
    with pytest.raises(SettingsError, match="on_member_edit names LNAME"):
        load_syncs(file)


def test_tags_as_a_list_are_those_of_every_contact(tmp_path):
    file = tmp_path / "syncs.yaml"
    body = "{audience_id: a, new_contact_status: pending, fields: {FNAME: GivenName}, tags: [A, B]}"
    file.write_text(f"syncs:\n  main: {body}\n", encoding="utf-8")
    assert load_syncs(file)["main"].tags.static == ("A", "B")


def test_syncs_of_one_audience_know_each_other_and_who_comes_first(tmp_path):
    file = tmp_path / "syncs.yaml"
    body = "new_contact_status: pending, fields: {FNAME: GivenName}"
    file.write_text(
        f"syncs:\n  east: {{audience_id: a, {body}}}\n  west: {{audience_id: a, {body}}}\n"
        f"  north: {{audience_id: b, {body}}}\n",
        encoding="utf-8",
    )
    known = {name: sync.beside for name, sync in load_syncs(file).items()}
    assert known == {"east": {"west": False}, "west": {"east": True}, "north": {}}


@pytest.mark.parametrize(("given", "days"), [("", 90), ("7", 7), ("0", 0), ("3650", 3650)])
def test_webhook_events_are_kept_a_week_to_ten_years_or_for_ever(tmp_path, given, days):
    text = SMALLEST + (f"webhooks: {{keep_days: {given}}}\n" if given else "")
    assert load_webhooks(written(tmp_path, text)).keep_days == days


@pytest.mark.parametrize(("given", "seconds"), [("", 10), ("0", 0), ("120", 120)])
def test_the_webhook_task_stays_ten_seconds_or_as_long_as_is_set(tmp_path, given, seconds):
    text = SMALLEST + (f"webhooks: {{stay_seconds: {given}}}\n" if given else "")
    assert load_webhooks(written(tmp_path, text)).stay_seconds == seconds


@pytest.mark.parametrize("given", ["-1", "121", "long", "1.5"])
def test_a_wrong_time_to_stay_is_named_with_its_line(tmp_path, given):
    path = written(tmp_path, SMALLEST + f"webhooks: {{stay_seconds: {given}}}\n")
    with pytest.raises(SettingsError, match=r"line 6: webhooks\.stay_seconds: "):
        load_syncs(path)


@pytest.mark.parametrize("given", ["6", "-1", "3651", "long", "1.5"])
def test_a_wrong_time_to_keep_webhook_events_is_named_with_its_line(tmp_path, given):
    path = written(tmp_path, SMALLEST + f"webhooks: {{keep_days: {given}}}\n")
    with pytest.raises(SettingsError, match=r"line 6: webhooks\.keep_days: "):
        load_syncs(path)


def test_the_custom_fields_of_all_settings_are_known_each_once(tmp_path):
    text = SMALLEST.replace("GivenName", '"{CustomField[Tier]} {GivenName}"') + (
        "    tags: {from: {'CustomField[Region]': '{value}'}}\n"
        "    include: {'CustomField[Region]': [North]}\n"
        "    exclude: {'CustomField[Old customer]': ['yes']}\n"
        "    groups: {Area: '{CustomField[Area]}'}\n    language: CustomField[Speaks]\n"
    )
    sync = load_sync("main", written(tmp_path, text))
    assert sync.custom_fields == ("Tier", "Region", "Old customer", "Area", "Speaks")
    assert load_sync("main", written(tmp_path, SMALLEST)).custom_fields == ()


def test_a_file_of_airflows_home_goes_before_the_checkouts(tmp_path):
    home = {"AIRFLOW_HOME": str(tmp_path)}
    assert find_source(home).path == DEFAULT_FILE
    file = tmp_path / "config/syncs.yaml"
    file.parent.mkdir()
    file.touch()
    assert find_source(home).path == file
    assert find_source(home | {"ML_CONNECTOR_SYNCS": "/etc/syncs.yaml"}).place == "/etc/syncs.yaml"


def test_where_there_is_no_file_a_further_source_is_used_and_named_with_its_line(
    tmp_path, monkeypatch
):
    monkeypatch.setattr("ml_connector.settings_source.DEFAULT_FILE", tmp_path / "none")
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    monkeypatch.delenv("ML_CONNECTOR_SYNCS", raising=False)
    wrong = Source("Variable v", text="syncs:\n  main:\n    audience: a1\n")
    monkeypatch.setattr("ml_connector.settings_source.FURTHER", [lambda: None, lambda: wrong])
    with pytest.raises(SettingsError, match=r"Variable v, line 2: syncs\.main\.audience_id"):
        load_syncs()
    with pytest.raises(SettingsError, match="the settings are in the Variable v"):
        settings_file()
    monkeypatch.setattr("ml_connector.settings_source.FURTHER", [])
    with pytest.raises(SettingsError, match=r"there are no settings: write .*config/syncs.yaml"):
        load_syncs()
    assert settings_file() == tmp_path / "config/syncs.yaml"
