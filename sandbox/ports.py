"""Free TCP ports for servers that cannot take port 0, such as a separate process."""

import contextlib
import random
import socket

# Below the first port for outgoing connections and for servers that ask for port 0:
# Linux from 32768 (net.ipv4.ip_local_port_range), elsewhere from 49152 (RFC 6335, section 6).
PORTS = range(20_000, 32_000)

_given: set[int] = set()
_chance = random.SystemRandom()  # tests seed the common one


def free_port(host: str = "127.0.0.1") -> int:
    """Return a port of `PORTS` without a listener, never the same one twice in a process.

    A port found by asking for 0 can go to another connection before the server listens.

    Raises:
        OSError: no port is free.
    """
    for port in _chance.sample(PORTS, len(PORTS)):
        if port in _given:
            continue
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind((host, port))
            _given.add(port)
            return port
    raise OSError(f"no port of {PORTS[0]} to {PORTS[-1]} is free")
