"""Base hook: ``HttpHook`` used for its session only, without secrets in it."""

from functools import cache
from typing import Any

import requests
from airflow.providers.http.hooks.http import HttpHook
from airflow.sdk import Connection

_TRANSPORT_EXTRAS = frozenset(
    {"proxies", "proxy", "verify", "verify_ssl", "cert", "trust_env", "max_redirects"}
)


class SessionHook(HttpHook):
    """Hook that gives a session with the connection's proxy and certificate settings.

    ``HttpHook`` sends every other extra as a header, and login and password as Basic
    authentication. Here these are secrets (webhook keys, client secret) that must not be sent. The
    clients authenticate each call themselves.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # HttpHook looks the connection up again for each session. In a task each look-up is a
        # request to Airflow's API server.
        self.get_connection = cache(self.get_connection)  # type: ignore[method-assign]

    def _extract_auth(self, connection: Connection) -> Any:  # noqa: ARG002
        return _leave_headers_alone

    def _configure_session_from_extra(
        self, session: requests.Session, connection: Connection, extra_options: dict[str, Any]
    ) -> requests.Session:
        extra = connection.extra_dejson
        options = {name: extra[name] for name in _TRANSPORT_EXTRAS & extra.keys()}
        bare = Connection(conn_id=connection.conn_id, conn_type="http")
        return super()._configure_session_from_extra(session, bare, {**options, **extra_options})


def _leave_headers_alone(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Stop ``requests`` from replacing our Authorization header with an entry of ``~/.netrc``."""
    return request
