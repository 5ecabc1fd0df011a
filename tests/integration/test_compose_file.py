"""docker-compose.yaml: valid, every part of Airflow, secrets from outside, one open door."""

import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import jsonschema
import pytest
import yaml

from local.airflow import POOLS
from local.settings import Ports, sandbox_credentials
from ml_connector.webhooks.endpoint import PREFIX
from ml_connector.webhooks.receiver.body import LARGEST

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docker-compose.yaml").read_text()
COMPOSE = yaml.safe_load(TEXT)
SERVICES = COMPOSE["services"]
OVERRIDE = (ROOT / "deploy" / "compose.secret-files.yaml").read_text()
LOCK = (ROOT / "requirements.txt").read_text()
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
CADDYFILE = (ROOT / "deploy" / "Caddyfile").read_text()
ONE_SHOT = {"init", "sandbox-connections"}


def variables(name: str) -> dict[str, str]:
    return SERVICES[name].get("environment", {})


@pytest.mark.parametrize("text", [TEXT, OVERRIDE.replace("!override ", "")])
def test_it_is_valid_by_the_compose_specification(text):
    """The schema of https://github.com/compose-spec/compose-spec, as check-jsonschema has it."""
    folder = resources.files("check_jsonschema.builtin_schemas.vendor")
    schema = json.loads((folder / "compose-spec.json").read_text())
    jsonschema.validate(yaml.safe_load(text), schema)


def test_every_part_of_airflow_has_its_service():
    expected = {"api-server", "scheduler", "dag-processor", "triggerer", "worker", "init"}
    assert expected <= SERVICES.keys()
    assert SERVICES["worker"]["deploy"]["replicas"] == 2


def test_every_service_that_stays_up_says_how_it_is_checked():
    without = {name for name, service in SERVICES.items() if "healthcheck" not in service}
    assert without == ONE_SHOT


def test_nothing_of_airflow_starts_before_the_tables_are_there():
    for name in set(SERVICES) - {"postgres", "redis", "init", "proxy", "sandbox"}:
        waits = SERVICES[name]["depends_on"]
        assert waits["init"] == {"condition": "service_completed_successfully"}, name


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_images_are_named_by_version(name):
    assert re.search(r":\d+\.\d+", SERVICES[name]["image"])


def test_our_images_have_the_projects_version_and_only_the_sandbox_has_mock_servers():
    ours = {
        name: (service["image"], service["build"]["target"])
        for name, service in SERVICES.items()
        if "build" in service
    }
    mock = {"sandbox", "sandbox-connections"}
    assert {ours.pop(name) for name in mock} == {(f"ml-connector-sandbox:{VERSION}", "sandbox")}
    assert set(ours.values()) == {(f"ml-connector:{VERSION}", "product")}
    assert all(SERVICES[name]["profiles"] == ["sandbox"] for name in mock)


def test_the_image_has_the_locked_airflow():
    version = re.search(r"AIRFLOW_VERSION=(\S+)", (ROOT / "Dockerfile").read_text())[1]
    assert f"apache-airflow=={version} " in LOCK


def test_every_part_has_the_same_keys():
    for name, service in SERVICES.items():
        if service["image"].startswith("ml-connector:"):
            assert set(service["secrets"]) == set(COMPOSE["secrets"]), name
            for key in ("ML_CONNECTOR_ENCRYPTION_KEYS", "ML_CONNECTOR_INDEX_KEY"):
                assert variables(name)[f"{key}_FILE"] == f"/run/secrets/{key.lower()}", name


def test_no_environment_holds_a_secret():
    """What stands in a container's environment is shown by `docker inspect`."""
    names = {source["environment"] for source in COMPOSE["secrets"].values()}
    for name in SERVICES:
        assert not names & set(re.findall(r"\$\{([A-Z_]+)", json.dumps(variables(name)))), name


def test_the_example_file_asks_for_every_value_from_outside():
    used = set(re.findall(r"(?<!\$)\$\{([A-Z_]+)", TEXT))
    used |= {source["environment"] for source in COMPOSE["secrets"].values()}
    example = (ROOT / ".env.compose.example").read_text()
    assert used == set(re.findall(r"^([A-Z_]+)=$", example, re.MULTILINE))


def test_secrets_from_files_are_the_same_secrets():
    files = yaml.safe_load(OVERRIDE.replace("!override ", ""))["secrets"]
    assert set(files) == set(COMPOSE["secrets"])
    assert all(source == {"file": f"./secrets/{name}"} for name, source in files.items())


def test_only_the_proxy_is_reachable_from_outside():
    open_ports = {
        name: [port for port in service["ports"] if not port.startswith("127.0.0.1:")]
        for name, service in SERVICES.items()
        if "ports" in service
    }
    assert open_ports == {"proxy": ["80:80", "443:443"], "api-server": []}


def test_the_proxy_reaches_the_receiver_alone():
    on_front = {
        name for name, service in SERVICES.items() if "front" in service.get("networks", ())
    }
    assert on_front == {"proxy", "receiver"}
    assert SERVICES["proxy"]["networks"] == ["front"]


def test_the_proxy_and_the_receiver_agree_on_the_size_of_a_body():
    megabytes = int(re.search(r"max_size (\d+)MiB", CADDYFILE)[1])
    assert megabytes << 20 == LARGEST


def test_the_pools_are_those_of_the_local_start():
    pools = json.loads((ROOT / "deploy" / "pools.json").read_text())
    assert {name: (pool["slots"], pool["description"]) for name, pool in pools.items()} == POOLS


def test_the_sandbox_is_connected_as_the_local_start_does_it():
    folder = ROOT / "deploy" / "sandbox"
    given = sandbox_credentials(Ports())
    connections = json.loads((folder / "connections.json").read_text())
    quickbooks, mailchimp = connections["quickbooks_default"], connections["mailchimp_default"]
    assert (quickbooks["login"], quickbooks["password"]) == (given.client_id, given.client_secret)
    assert quickbooks["extra"]["realm_id"] == given.realm_id
    assert mailchimp["password"] == given.mailchimp_key
    (token,) = json.loads((folder / "variables.json").read_text()).values()
    assert token["refresh_token"] == given.refresh_token


def test_settings_of_ones_own_are_in_a_folder_that_git_ignores():
    """Or `git pull`, the first command of an upgrade, would refuse."""
    page = (INSTALL / "docker.md").read_text()
    (folder,) = re.findall(r"`SETTINGS_FOLDER=\./(\w+)`", page)
    assert f"/{folder}/" in (ROOT / ".gitignore").read_text().splitlines()
    assert f"cp -r include/config {folder}\n" in page
    mounts = {
        place
        for service in SERVICES.values()
        for place in service.get("volumes", ())
        if "/etc/ml-connector" in place
    }
    assert mounts == {"${SETTINGS_FOLDER:-./include/config}:/etc/ml-connector:ro"}


INSTALL = ROOT / "docs" / "how-to" / "install"
VALUES = yaml.safe_load((ROOT / "deploy" / "kubernetes" / "values.yaml").read_text())
MANIFESTS = list(yaml.safe_load_all((ROOT / "deploy" / "kubernetes" / "receiver.yaml").read_text()))
RECEIVER_POD = MANIFESTS[0]["spec"]["template"]["spec"]
RECEIVER = RECEIVER_POD["containers"][0]


CONTAINERS_ONLY = {
    # Compose asks its scheduler by HTTP; the chart's own probe asks `airflow jobs check`.
    "AIRFLOW__SCHEDULER__ENABLE_HEALTH_CHECK",
}


def test_the_cluster_has_the_settings_of_the_containers():
    given = {
        f"AIRFLOW__{section}__{option}".upper(): str(value)
        for section, options in VALUES["config"].items()
        for option, value in options.items()
    }
    for name, value in variables("worker").items():
        waits = name.startswith(("AIRFLOW__SCHEDULER__", "AIRFLOW__CELERY_BROKER_"))
        if (waits or name in given) and name not in CONTAINERS_ONLY and "${" not in value:
            assert given.get(name) == value, name


def test_tasks_start_on_a_busy_machine_and_none_outlives_its_message():
    from ml_connector_airflow.defaults import EXECUTION_TIMEOUT

    given = variables("worker")
    assert given["AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT"] == "60"
    assert VALUES["config"]["workers"]["execution_api_timeout"] == 60
    redelivered = int(given["AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__VISIBILITY_TIMEOUT"])
    assert redelivered > EXECUTION_TIMEOUT.total_seconds()


def test_every_setting_of_airflow_is_one_that_the_locked_airflow_knows():
    """A misspelt one would be taken without a word, by Compose, by the chart and by Airflow."""
    from airflow.configuration import conf

    known = {
        f"AIRFLOW__{section}__{option}".upper()
        for section, described in conf.configuration_description.items()
        for option in described["options"]
    }
    named = {name.removesuffix("_CMD") for each in SERVICES for name in variables(each)}
    named |= {
        f"AIRFLOW__{section}__{option}".upper()
        for section, options in VALUES["config"].items()
        for option in options
    }
    assert {name for name in named if name.startswith("AIRFLOW__")} - known == set()


TEXT_OR_NOT, NUMBER, SWITCH = (str, type(None)), int, bool
CHART = {
    # The keys in use, read off values.schema.json of the chart 1.22.0, which takes no others below
    # `images`, `data`, `workers`, `apiServer` and the jobs. The whole file was checked against that
    # schema (docs/how-to/install/helm.md has the command); it is not copied here.
    "images.airflow.repository": TEXT_OR_NOT,
    "images.airflow.tag": TEXT_OR_NOT,
    "defaultAirflowTag": str,
    "airflowVersion": str,
    "executor": str,
    "fernetKeySecretName": TEXT_OR_NOT,
    "apiSecretKeySecretName": TEXT_OR_NOT,
    "jwtSecretName": TEXT_OR_NOT,
    "data.metadataSecretName": TEXT_OR_NOT,
    "postgresql.enabled": SWITCH,
    "volumes": list,
    "volumeMounts": list,
    "env": list,
    "config": dict,
    "createUserJob.enabled": SWITCH,
    "migrateDatabaseJob.args": list,
    "migrateDatabaseJob.applyCustomEnv": SWITCH,
    "workers.celery.replicas": NUMBER,
    "workers.celery.terminationGracePeriodSeconds": NUMBER,
    "apiServer.replicas": NUMBER,
}


def keys_of(values: dict, prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in values.items():
        if prefix + key not in CHART and isinstance(value, dict):
            yield from keys_of(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def test_the_clusters_values_are_keys_that_airflows_chart_describes():
    for key, value in keys_of(VALUES):
        assert key in CHART, f"look {key} up in the chart's values.schema.json"
        kind = CHART[key]
        assert isinstance(value, kind), key
        assert isinstance(value, bool) == (kind is SWITCH), key
    assert re.fullmatch(r"([a-zA-Z_]\w*\.)*[A-Z][a-zA-Z0-9]+Executor", VALUES["executor"])
    for one in VALUES["env"]:  # others than these two are refused
        assert set(one) == {"name", "value"}
        assert isinstance(one["value"], str)


def test_the_receivers_parts_in_the_cluster_find_each_other():
    deployment, service, _ = MANIFESTS
    pod = deployment["spec"]["template"]
    labels = pod["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"] == labels
    assert service["spec"]["selector"] == labels
    (port,) = (one["containerPort"] for one in RECEIVER["ports"])
    assert [one["targetPort"] for one in service["spec"]["ports"]] == [port]
    assert RECEIVER["readinessProbe"]["httpGet"]["port"] == port
    assert RECEIVER["livenessProbe"]["tcpSocket"]["port"] == port
    mounted = {one["name"] for one in RECEIVER["volumeMounts"]}
    assert mounted == {one["name"] for one in pod["spec"]["volumes"]}


def test_every_secret_of_the_cluster_is_made_by_the_page_with_the_keys_that_are_read():
    page = (INSTALL / "helm.md").read_text().replace("\\\n", " ")
    page = page.partition("## A release you have")[0]
    made = {}
    for line in page.splitlines():
        if " create secret generic " in line:
            words = shlex.split(line.partition(" create secret generic ")[2])
            (secret,) = [word for word in words if not word.startswith("--")]
            keys = {word.split("=")[1] for word in words if word.startswith("--from-literal")}
            made[secret] = keys
    read: dict[str, set[str]] = {
        VALUES["fernetKeySecretName"]: {"fernet-key", "api-secret-key", "jwt-secret"},
        VALUES["data"]["metadataSecretName"]: {"connection"},
        VALUES["volumes"][0]["secret"]["secretName"]: {
            one["value"].rpartition("/")[2] for one in VALUES["env"] if "_FILE" in one["name"]
        },
    }
    assert {VALUES["apiSecretKeySecretName"], VALUES["jwtSecretName"]} <= read.keys()
    assert made == read
    for volume in VALUES["volumes"][1:]:
        assert f"create configmap {volume['configMap']['name']} --from-file" in page
    for one in RECEIVER["env"]:
        if "valueFrom" in one:
            asked = one["valueFrom"]["secretKeyRef"]
            assert asked["key"] in read[asked["name"]], one["name"]


def test_the_cluster_and_the_containers_run_the_same_version():
    image = "{repository}:{tag}".format(**VALUES["images"]["airflow"])
    page = (INSTALL / "helm.md").read_text()
    assert set(re.findall(r"registry\.example\.com/\S+", page)) >= {image}
    assert image.endswith(f"/{SERVICES['worker']['image']}")
    assert RECEIVER["image"] == image
    assert f"apache-airflow=={VALUES['airflowVersion']} " in LOCK
    assert VALUES["workers"]["celery"]["replicas"] == SERVICES["worker"]["deploy"]["replicas"]


def test_every_part_in_the_cluster_has_the_same_keys_as_files():
    files = {one["name"]: one["value"] for one in VALUES["env"] if "_FILE" in one["name"]}
    assert {key: Path(each).name for key, each in files.items()} == {
        key: Path(each).name
        for key, each in variables("worker").items()
        if key.startswith("ML_") and "_FILE" in key
    }
    keys, settings = (place["mountPath"] for place in VALUES["volumeMounts"])
    assert {str(Path(each).parent) for each in files.values()} == {keys}
    assert RECEIVER["volumeMounts"] == VALUES["volumeMounts"]
    assert RECEIVER_POD["volumes"] == VALUES["volumes"]
    assert not keys.startswith("/run/secrets"), "the service account's token is there"
    read = next(one["value"] for one in VALUES["env"] if one["name"] == "ML_CONNECTOR_SYNCS")
    assert read == variables("worker")["ML_CONNECTOR_SYNCS"] == f"{settings}/syncs.yaml"
    given = {one["name"]: one.get("value") for one in RECEIVER["env"]}
    assert all(given[one["name"]] == one["value"] for one in VALUES["env"])


def test_the_cluster_migrates_and_receives_by_the_same_commands():
    assert VALUES["migrateDatabaseJob"]["args"] == ["bash", *SERVICES["init"]["command"]]
    words = [*SERVICES["receiver"]["entrypoint"], *SERVICES["receiver"]["command"].split()]
    assert RECEIVER["command"] == words


def test_the_ingress_passes_both_webhook_paths_and_nothing_else():
    (rule,) = MANIFESTS[2]["spec"]["rules"]
    paths = {(one["path"], one["pathType"]) for one in rule["http"]["paths"]}
    assert paths == {(f"{PREFIX}/quickbooks", "Exact"), (f"{PREFIX}/mailchimp/", "Prefix")}
    service = MANIFESTS[1]["metadata"]["name"]
    assert {one["backend"]["service"]["name"] for one in rule["http"]["paths"]} == {service}


@pytest.mark.parametrize(
    "page", ["install/docker.md", "install/helm.md", "upgrade.md", "back-up.md"]
)
def test_pages_name_services_profiles_and_files_that_exist(page):
    text = (INSTALL.parent / page).read_text()
    for service in re.findall(r"(?:exec|exec -T) ([a-z-]+) ", text):
        assert service in SERVICES, service
    for profile in re.findall(r"--profile (\w+)", text):
        assert any(profile in one.get("profiles", ()) for one in SERVICES.values()), profile
    for file in re.findall(r"\b(?:deploy|secrets)/[\w./-]+\w", text):
        assert (ROOT / file).exists(), file
