"""Which loopback addresses are this cluster's own, while others run beside it?

All of 127.0.0.0/8 is this machine (Linux). A cluster takes one /16 of it, and holds a socket there for as long as it
runs: nobody else's cluster takes the same, and a killed one leaves nothing behind.
"""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass

# The API server, and all who speak to it.
HOST = "127.0.0.1"
_FIRST, _LAST = 10, 99
_CLAIM_PORT = 10250


@dataclass(frozen=True)
class Network:
    """A /16, in parts. ``claim`` holds it until it is closed."""

    whole: ipaddress.IPv4Network
    claim: socket.socket

    @property
    def pods(self) -> ipaddress.IPv4Network:
        return self._quarter(0)

    @property
    def simulated_pods(self) -> ipaddress.IPv4Network:
        """Those of kwok."""
        return self._quarter(1)

    @property
    def services(self) -> ipaddress.IPv4Network:
        return self._quarter(2)

    def _quarter(self, which: int) -> ipaddress.IPv4Network:
        return list(self.whole.subnets(prefixlen_diff=2))[which]


def claim() -> Network:
    """:raises OSError: all networks are taken."""
    for number in range(_FIRST, _LAST + 1):
        whole = ipaddress.IPv4Network(f"127.{number}.0.0/16")
        holder = socket.socket()
        try:
            # The last address: pods get the first ones.
            holder.bind((str(whole.broadcast_address - 1), _CLAIM_PORT))
        except OSError:
            holder.close()
            continue
        return Network(whole, holder)
    raise OSError(f"127.{_FIRST}.0.0/16 to 127.{_LAST}.0.0/16 are all taken by clusters on this machine")
