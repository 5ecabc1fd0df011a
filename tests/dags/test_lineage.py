"""The daily DAG says where data comes from and goes to, in Airflow's assets."""

from airflow.sdk.providers_manager_runtime import ProvidersManagerTaskRuntime


def test_a_sync_goes_from_its_company_to_its_audience(bag):
    report = bag.dags["sync_customers__main"].get_task("report")
    assert [asset.uri.rstrip("/") for asset in report.inlets] == ["quickbooks://quickbooks_default"]
    assert [asset.uri.rstrip("/") for asset in report.outlets] == ["mailchimp://a1b2c3d4e5"]


def test_airflow_finds_how_our_assets_are_called_in_openlineage():
    from ml_connector_airflow.lineage import to_openlineage

    converters = ProvidersManagerTaskRuntime().asset_to_openlineage_converters
    assert {converters["quickbooks"], converters["mailchimp"]} == {to_openlineage}
