"""Airbyte's QuickBooks source, its hosts pointed at the sandbox: ``run_airbyte.py URL ARGS``.

The hosts are constants of its manifest.
"""

import sys

import loopback_login
from airbyte_cdk.sources.declarative import yaml_declarative_source

url = sys.argv.pop(1)
loopback_login.install(f"{url}/oauth2/v1/tokens/bearer", ("sandbox-client", "sandbox-secret"))
original = yaml_declarative_source.YamlDeclarativeSource._parse


def parse(text: str) -> object:
    """Read the manifest with the sandbox in place of Intuit."""
    for host in (
        "https://sandbox-quickbooks.api.intuit.com",
        "https://quickbooks.api.intuit.com",
        "https://oauth.platform.intuit.com",
    ):
        text = text.replace(host, url)
    return original(text)


yaml_declarative_source.YamlDeclarativeSource._parse = staticmethod(parse)

from source_quickbooks.run import run  # noqa: E402 - after its manifest's reader

run()
