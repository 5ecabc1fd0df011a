"""Requests the mock server makes by itself: plain HTTP/1.1, one connection each.

They run on the server's own event loop, so they delay no response and end when the server ends.
"""

import asyncio
import contextlib
from collections.abc import Mapping
from urllib.parse import urlsplit

_LINGER_SECONDS = 1.0


async def request(
    method: str, url: str, *, headers: Mapping[str, str], body: bytes = b"", seconds: float
) -> int:
    """Send a request and return the response's status; redirects are not followed.

    Raises:
        OSError: no connection, no response within `seconds` (as TimeoutError), or not HTTP.
    """
    # Not wait_for: in Python 3.11 it loses a cancellation that meets the end of what it waits for
    # (https://github.com/python/cpython/issues/86296), and a sender would never stop.
    async with asyncio.timeout(seconds):
        return await _request(method, url, headers, body)


async def _request(method: str, url: str, headers: Mapping[str, str], body: bytes) -> int:
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port or 80)
    try:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        lines = [f"{method} {target} HTTP/1.1", f"Host: {parts.netloc.rpartition('@')[2]}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        lines += ["Accept: */*", "Connection: close", f"Content-Length: {len(body)}", "", ""]
        writer.write("\r\n".join(lines).encode("utf-8") + body)
        await writer.drain()
        answer = (await reader.readline()).split()
        if len(answer) < 2 or not answer[0].startswith(b"HTTP/") or not answer[1].isdigit():
            raise ConnectionError("no HTTP response")
        # A receiver whose response is cut short would log an error of its own.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LINGER_SECONDS):
                await reader.read()
        return int(answer[1])
    finally:
        writer.close()
