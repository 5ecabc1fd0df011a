"""What OpenLineage calls our assets: a company's customers come in, an audience goes out."""

from typing import Any
from urllib.parse import urlsplit


def to_openlineage(asset: Any, lineage_context: Any) -> Any:  # noqa: ARG001 -- Airflow's signature
    """Return the OpenLineage dataset of ``quickbooks://<conn_id>`` or ``mailchimp://<audience>``.

    Called by the OpenLineage provider only, so its classes are at hand.
    """
    from airflow.providers.common.compat.openlineage.facet import Dataset

    parsed = urlsplit(asset.uri)
    return Dataset(namespace=parsed.scheme, name=f"{parsed.netloc}{parsed.path}".rstrip("/"))
