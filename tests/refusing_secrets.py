"""A secrets backend that refuses, with an exception of its own whose text nobody should see."""

from airflow.secrets.base_secrets import BaseSecretsBackend


class AccessDeniedException(Exception):
    """As a vendor's client raises it: of a class that nobody else knows."""


class RefusingSecrets(BaseSecretsBackend):
    """Refuses every Variable and has no connection."""

    def get_connection(self, *_: object, **__: object) -> None:
        """Have none."""

    def get_variable(self, key: str, *_: object, **__: object) -> str:
        """Refuse."""
        raise AccessDeniedException(f"role/worker of 123456789012 may not read {key}")
