"""OpenLineage names of our assets: a company's customers in, an audience out."""

from typing import Any
from urllib.parse import urlsplit


def to_openlineage(asset: Any, lineage_context: Any) -> Any:  # noqa: ARG001 -- Airflow's signature
    """Return the OpenLineage dataset of ``quickbooks://<conn_id>`` or ``mailchimp://<audience>``.

    Only the OpenLineage provider calls this, so its classes are available.
    """
    from airflow.providers.common.compat.openlineage.facet import Dataset

    parsed = urlsplit(asset.uri)
    return Dataset(namespace=parsed.scheme, name=f"{parsed.netloc}{parsed.path}".rstrip("/"))
