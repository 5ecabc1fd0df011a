"""Lineage: the assets of a sync, and their names in OpenLineage."""

from typing import Any
from urllib.parse import urlsplit

from airflow.sdk import Asset

from ml_connector.settings import Sync


def assets(sync: Sync) -> dict[str, list[Asset]]:
    """Return inlets and outlets of a task: data goes from the sync's company to its audience."""
    return {
        "inlets": [Asset(f"quickbooks://{sync.quickbooks_conn_id}")],
        "outlets": [Asset(f"mailchimp://{sync.audience_id}")],
    }


def to_openlineage(asset: Any, lineage_context: Any) -> Any:  # noqa: ARG001 -- Airflow's signature
    """Return the OpenLineage dataset of ``quickbooks://<conn_id>`` or ``mailchimp://<audience>``.

    Only the OpenLineage provider calls this, so its classes are available.
    """
    from airflow.providers.common.compat.openlineage.facet import Dataset

    parsed = urlsplit(asset.uri)
    return Dataset(namespace=parsed.scheme, name=f"{parsed.netloc}{parsed.path}".rstrip("/"))
