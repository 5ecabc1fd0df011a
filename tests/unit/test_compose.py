"""docker-compose.yaml: the services Airflow needs, secrets from outside, versions pinned."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())
LOCK = (ROOT / "requirements.txt").read_text()


def test_every_part_of_airflow_has_its_service():
    expected = {"api-server", "scheduler", "dag-processor", "triggerer", "worker", "init"}
    assert expected <= COMPOSE["services"].keys()


def test_all_workers_use_the_keys_given_from_outside():
    for name in ("api-server", "scheduler", "worker", "triggerer"):
        environment = COMPOSE["services"][name]["environment"]
        for key in ("ML_CONNECTOR_ENCRYPTION_KEYS", "ML_CONNECTOR_INDEX_KEY"):
            assert environment[key].startswith(f"${{{key}:?"), name


def test_every_secret_is_asked_for_in_the_example_file():
    used = set(re.findall(r"\$\{([A-Z_]+)", (ROOT / "docker-compose.yaml").read_text()))
    example = (ROOT / ".env.compose.example").read_text()
    assert used == set(re.findall(r"^([A-Z_]+)=$", example, re.MULTILINE))


@pytest.mark.parametrize("name", sorted(COMPOSE["services"]))
def test_images_are_named_by_version(name):
    assert re.search(r":\d+\.\d+", COMPOSE["services"][name]["image"])


def test_the_image_has_the_locked_airflow():
    version = re.search(r"AIRFLOW_VERSION=(\S+)", (ROOT / "Dockerfile").read_text())[1]
    assert f"apache-airflow=={version}\n" in LOCK


def test_the_pools_are_those_of_the_local_start():
    command = " ".join(COMPOSE["services"]["init"]["command"])
    assert "pools set quickbooks_api 2" in command
    assert "pools set mailchimp_api 2" in command
