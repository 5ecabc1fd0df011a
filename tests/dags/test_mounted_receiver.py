"""The receiver where Airflow's plugin mounts it: it lives whatever setting is missing.

The same in Airflow's real API server: tests/integration/test_receiver_mounted.py.
"""

from fastapi import FastAPI
from starlette.testclient import TestClient

from ml_connector.webhooks.endpoint import PREFIX


def mounted() -> TestClient:
    from ml_connector_airflow.plugin import MlConnectorPlugin

    app = FastAPI()
    for each in MlConnectorPlugin.fastapi_apps:
        app.mount(each["url_prefix"], each["app"])
    return TestClient(app)


def test_without_the_connectors_database_a_webhook_is_answered_503_and_the_rest_lives(
    monkeypatch,
):
    monkeypatch.delenv("AIRFLOW_CONN_ML_CONNECTOR_DB", raising=False)
    with mounted() as client:
        refused = client.post(f"{PREFIX}/quickbooks", content=b"[]")
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "10")
        assert client.get("/openapi.json").status_code == 200
