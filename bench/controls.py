"""The sandbox's controls, as the benchmarks use them."""

import requests

from sandbox.running import RunningSandbox


def control(base: str, method: str, path: str, body: object = None) -> dict[str, object]:
    """Return the response of one of the mock server's controls."""
    answer = requests.request(method, f"{base}/_sandbox/{path}", json=body, timeout=60)
    answer.raise_for_status()
    return dict(answer.json()) if answer.content else {}


def both(sandbox: RunningSandbox) -> tuple[str, str]:
    """Return the addresses of the two mock servers, QuickBooks first."""
    return sandbox.quickbooks_url, sandbox.mailchimp_url


def set_latency(sandbox: RunningSandbox, milliseconds: int) -> None:
    """Delay every response by so long."""
    for base in both(sandbox):
        control(base, "PUT", "latency", {"ms": milliseconds})


def forget_calls(sandbox: RunningSandbox) -> None:
    """Count calls from here on."""
    for base in both(sandbox):
        control(base, "DELETE", "journal")


def calls_of(sandbox: RunningSandbox) -> list[int]:
    """Return how many calls QuickBooks and Mailchimp had."""
    return [int(str(control(base, "GET", "journal/summary")["total"])) for base in both(sandbox)]
