"""tap-quickbooks, its hosts pointed at the sandbox: ``run_tap.py URL [tap's own arguments]``.

The hosts are constants of its client; its pacing is unchanged.
"""

import os
import sys

os.environ["OAUTHLIB_INSECURE_TRANSPORT"] = "1"  # loopback http

import loopback_login
import tap_quickbooks
from tap_quickbooks import client

url = sys.argv.pop(1)
client.PROD_ENDPOINT_BASE = client.SANDBOX_ENDPOINT_BASE = url
client.TOKEN_REFRESH_URL = f"{url}/oauth2/v1/tokens/bearer"
loopback_login.install(client.TOKEN_REFRESH_URL, ("sandbox-client", "sandbox-secret"))
tap_quickbooks.main()
