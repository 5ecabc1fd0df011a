"""What the provider tells Airflow of itself: its form, and that all of it is there."""

import json
from importlib import import_module, resources
from importlib.metadata import version
from pathlib import Path
from pkgutil import iter_modules

import jsonschema
import pytest
from airflow.providers_manager import ProvidersManager

from ml_connector_airflow.provider import get_provider_info

ROOT = Path(__file__).resolve().parents[2]
INFO = get_provider_info()
KINDS = ("hooks", "operators", "sensors", "triggers")


def schema(name: str) -> dict:
    return json.loads(resources.files("airflow").joinpath(f"{name}.schema.json").read_text())


def test_it_follows_airflows_schema():
    jsonschema.validate(INFO, schema("provider_info"))


@pytest.mark.parametrize("key", sorted(INFO))
def test_each_part_follows_the_stricter_schema_of_airflows_own_providers(key):
    jsonschema.validate(INFO[key], schema("provider.yaml")["properties"][key])


def test_airflow_lists_the_provider_with_the_packages_version():
    assert ProvidersManager().providers["ml-connector"].version == version("ml-connector")
    assert INFO["versions"] == [version("ml-connector")]


@pytest.mark.parametrize("kind", KINDS)
def test_every_module_of_a_kind_is_named_and_can_be_imported(kind):
    folder = import_module(f"ml_connector_airflow.{kind}")
    told = {module for each in INFO[kind] for module in each["python-modules"]}
    there = {f"{folder.__name__}.{each.name}" for each in iter_modules(folder.__path__)}
    assert told == there - {"ml_connector_airflow.hooks.session"}  # the base of both hooks
    for module in told:
        import_module(module)


def test_integrations_have_names_and_guides_that_exist():
    integrations = INFO["integrations"]
    names = {each["integration-name"] for each in integrations}
    assert {each["integration-name"] for kind in KINDS for each in INFO[kind]} == names
    assert {each["hook-name"] for each in INFO["connection-types"]} == names
    for guide in (guide for each in integrations for guide in each["how-to-guide"]):
        assert (ROOT / guide.lstrip("/")).is_file(), guide
