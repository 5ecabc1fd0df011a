"""The JSON schema of ``syncs.yaml`` says what the settings' models say."""

import json
import re
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from ml_connector import settings_schema
from ml_connector.customer_paths import ADDRESSES, PATHS, REFERENCES, check_source
from ml_connector.errors import SettingsError
from ml_connector.settings import load_alerts, load_syncs
from ml_connector.settings_source import DEFAULT_FILE
from tests.unit.test_customer_paths import CUSTOM, NEVER_NAMED, SENT_ON

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = DEFAULT_FILE.with_name("syncs.schema.json")
SCHEMA = settings_schema.schema()
VALIDATOR = Draft202012Validator(SCHEMA)
BODY = {"audience_id": "a", "new_contact_status": "pending", "fields": {"FNAME": "GivenName"}}


def accepted(**changes):
    """Whether the schema accepts a sync with these settings."""
    return VALIDATOR.is_valid({"syncs": {"main": {**BODY, **changes}}})


def test_the_shipped_schema_is_the_models_make_schema_writes_it():
    Draft202012Validator.check_schema(SCHEMA)
    assert SHIPPED.read_text("utf-8") == settings_schema.text(), "run `make schema`"


def test_the_shipped_file_names_its_schema_in_its_first_line_and_keeps_to_it():
    text = DEFAULT_FILE.read_text("utf-8")
    named = re.match(r"# yaml-language-server: \$schema=(\S+)\n", text)
    assert DEFAULT_FILE.with_name(named[1]) == SHIPPED
    VALIDATOR.validate(yaml.safe_load(text))


def test_the_examples_of_the_configuration_page_keep_to_the_schema():
    blocks = re.findall(
        r"```yaml\n(.*?)```", (ROOT / "docs/reference/configuration.md").read_text(), re.DOTALL
    )
    examples = [each for each in map(yaml.safe_load, blocks) if isinstance(each, dict)]
    whole = [each if "syncs" in each else None for each in examples]
    settings = [
        each for each in examples if each.keys() <= SCHEMA["$defs"]["Sync"]["properties"].keys()
    ]
    assert len(settings) > 5
    for each in settings:
        VALIDATOR.validate({"syncs": {"main": {**BODY, **each}}})
    for each in filter(None, whole):
        VALIDATOR.validate(each)


def test_every_setting_of_a_sync_is_described_to_the_editor():
    properties = SCHEMA["$defs"]["Sync"]["properties"]
    assert properties.keys() == {key.split(".")[0] for key in settings_schema.DESCRIPTIONS}
    assert all("description" in each for each in properties.values())


ODD = [
    *("BillAddr.Lat", "GivenName.x", "GivenName.", "BillAddr.", "PrimaryPhone", "MetaData"),
    *("CustomerTypeRef", "CustomerTypeRef.name", "CurrencyRef", "ShipAddr"),
]


@pytest.mark.parametrize("path", [*SENT_ON, *CUSTOM, *NEVER_NAMED, *ODD])
def test_the_schema_takes_the_paths_of_the_allow_list_and_no_others(path):
    def allowed(source, wholes=()):
        try:
            check_source(source, wholes)
        except ValueError:
            return False
        return True

    for source in (path, f"a {{{path}}}, {{DisplayName}}", f"{{{path}"):
        assert accepted(fields={"FNAME": source}) == allowed(source, ADDRESSES), source
        assert accepted(fields={"FNAME": [source]}) == allowed(source, ADDRESSES), source
        assert accepted(groups={"X": source}) == allowed(source, REFERENCES), source
        assert accepted(language=source) == allowed(source), source
    assert accepted(tags={"from": {path: "t"}}) == allowed(path, REFERENCES)
    assert set(PATHS) <= {each.partition(".")[0] for each in SENT_ON}


@pytest.mark.parametrize(
    "settings",
    [
        {"audience": "x"},
        {"new_contact_status": "cleaned"},
        {"fields": {"fname": "GivenName"}},
        {"fields": {"FNAME": []}},
        {"fields": ["FNAME"]},
        {"guard": {"max_archive": 3}},
        {"guard": {"max_archive_share": 10}},
        {"activity": {"write_to": "everywhere"}},
        {"include": {"colour": ["Blue"]}},
        {"create": "some"},
        {"name": "other"},
        {"beside": {}},
        {"marketing_permissions": ["Email"]},
        {"audience_id": ""},
    ],
)
def test_what_the_schema_refuses_loading_refuses_too(settings, tmp_path):
    assert not accepted(**settings)
    file = tmp_path / "syncs.yaml"
    file.write_text(yaml.safe_dump({"syncs": {"main": {**BODY, **settings}}}), "utf-8")
    with pytest.raises(SettingsError):
        load_syncs(file)


@pytest.mark.parametrize(
    "settings",
    [
        {"tags": ["A", "B"]},
        {"tags": {"static": ["A"], "from": {"customer_type": "QBO {value}", "job": "Job"}}},
        {"include": {"customer_type": "Retail", "CustomField[Region]": ["North"]}},
        {"groups": {"Customer type": "CustomerTypeRef", "Kind": "job"}},
        {"language": "Locale", "create": "never", "include_jobs": False},
        {"marketing_permissions": {"Email": "consent: order form"}},
    ],
)
def test_what_loading_takes_the_schema_takes_too(settings, tmp_path):
    file = tmp_path / "syncs.yaml"
    alerts = {"alerts": {"to": [{"smtp": "mail", "to": "ops@finch.org"}, {"slack": "ops"}]}}
    data = {"syncs": {"main": {**BODY, **settings}}, **alerts}
    file.write_text(yaml.safe_dump(data), "utf-8")
    assert load_syncs(file)["main"]
    assert len(load_alerts(file).to) == 2
    VALIDATOR.validate(data)


@pytest.mark.parametrize(("audience", "taken"), [("a1b2c3d4e5", True), ("a1b2c3d4e6", False)])
def test_only_the_sandboxs_audience_goes_without_a_status(audience, taken, tmp_path):
    data = {"syncs": {"main": {"audience_id": audience, "fields": {"FNAME": "GivenName"}}}}
    file = tmp_path / "syncs.yaml"
    file.write_text(yaml.safe_dump(data), "utf-8")
    assert VALIDATOR.is_valid(data) == taken
    if taken:
        assert load_syncs(file)["main"].new_contact_status == "subscribed"
    else:
        with pytest.raises(SettingsError, match="every customer agreed to the newsletter"):
            load_syncs(file)


def test_the_schema_is_json_without_a_machines_paths():
    assert json.loads(settings_schema.text()) == SCHEMA
    assert str(ROOT) not in settings_schema.text()
