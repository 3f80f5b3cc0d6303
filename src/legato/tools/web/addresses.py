"""Which addresses belong to the public internet. Pure: strings and numbers in, a word for what is wrong out.

The table is ours, from IANA's special-purpose registries (read 2026-11), because ``ipaddress.is_global`` has changed
between patch releases of Python; what it calls not global is refused as well. An IPv6 address that carries an IPv4
one is what it carries.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from typing import Literal, TypeAlias

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
Kind: TypeAlias = Literal[
    "loopback", "private", "shared", "link-local", "of a metadata service", "multicast", "unspecified", "reserved"
]

# In the order in which they are asked: the narrow before the wide.
_TABLE: tuple[tuple[Kind, tuple[str, ...]], ...] = (
    (
        "of a metadata service",
        (
            "169.254.169.254/32",  # AWS, Google, Azure, and most others
            "169.254.170.2/32",  # AWS, credentials of a container
            "169.254.170.23/32",  # AWS, credentials of a pod
            "fd00:ec2::254/128",  # AWS over IPv6
            "fd20:ce::254/128",  # Google over IPv6
            "100.100.100.200/32",  # Alibaba
            "192.0.0.192/32",  # Oracle
            "168.63.129.16/32",  # Azure's host, on an address that is public everywhere else
        ),
    ),
    ("unspecified", ("0.0.0.0/8", "::/128")),
    ("loopback", ("127.0.0.0/8", "::1/128")),
    ("link-local", ("169.254.0.0/16", "fe80::/10", "fec0::/10")),
    ("private", ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7", "64:ff9b:1::/48")),
    ("shared", ("100.64.0.0/10",)),  # of carriers, RFC 6598
    ("multicast", ("224.0.0.0/4", "ff00::/8")),
    (
        "reserved",
        (
            "192.0.0.0/24",  # protocol assignments
            "192.0.2.0/24",  # documentation
            "192.88.99.0/24",  # 6to4 relays, given up
            "198.18.0.0/15",  # benchmarks
            "198.51.100.0/24",  # documentation
            "203.0.113.0/24",  # documentation
            "240.0.0.0/4",  # future use, and broadcast
            "100::/64",  # discard
            "2001:2::/48",  # benchmarks
            "2001:10::/28",  # ORCHID
            "2001:20::/28",  # ORCHIDv2
            "2001:db8::/32",  # documentation
            "3fff::/20",  # documentation
            "5f00::/16",  # segment routing
        ),
    ),
)
_NETWORKS: tuple[tuple[Network, Kind], ...] = tuple(
    (ipaddress.ip_network(network), kind) for kind, networks in _TABLE for network in networks
)

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_TEREDO = ipaddress.IPv6Network("2001::/32")
_SIX_TO_FOUR = ipaddress.IPv6Network("2002::/16")
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
# The interface identifier of ISATAP (RFC 5214): 0000:5efe or 0200:5efe, and the IPv4 address behind it.
_ISATAP = (0x0000_5EFE, 0x0200_5EFE)

NAMES_MAY_BE: frozenset[Kind] = frozenset({"loopback", "private", "shared"})
"""What a host of ``allow_hosts`` may resolve to besides what is public; a metadata service is never meant."""


def refusal_of(address: Address) -> Kind | None:
    """What an address is instead of public; None for a public one. A zone id makes an address link-local."""
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        return "link-local"
    for network, kind in _NETWORKS:
        if address in network:
            return kind
    carried = tuple(_carried(address))
    for one in carried:
        if (kind_of_carried := refusal_of(one)) is not None:
            return kind_of_carried
    if isinstance(address, IPv6Address) and address not in _GLOBAL_UNICAST:
        # Mapped and translated addresses are what they carry; nothing else outside 2000::/3 is given to anybody.
        return None if carried and _is_translation(address) else "reserved"
    return None if address.is_global or carried else "reserved"


def is_within(address: Address, networks: tuple[Network, ...]) -> bool:
    """Whether one of these holds the address, or the IPv4 address that it stands for."""
    same = [address, *(_carried(address) if _is_translation(address) else ())]
    return any(one in network for one in same for network in networks)


def _is_translation(address: Address) -> bool:
    return isinstance(address, IPv6Address) and (address.ipv4_mapped is not None or address in _NAT64)


def _carried(address: Address) -> Iterator[IPv4Address]:
    """The IPv4 addresses inside an IPv6 one, each of which a router or host on the way may send to."""
    if not isinstance(address, IPv6Address):
        return
    number = int(address)
    last = IPv4Address(number & 0xFFFF_FFFF)
    if number >> 32 in {0, 0xFFFF, 0xFFFF_0000} or address in _NAT64:  # compatible, mapped, SIIT, NAT64
        yield last
    if address in _SIX_TO_FOUR:
        yield IPv4Address(number >> 80 & 0xFFFF_FFFF)
    if address in _TEREDO:
        yield IPv4Address(number >> 64 & 0xFFFF_FFFF)
        yield IPv4Address(~number & 0xFFFF_FFFF)
    if number >> 32 & 0xFFFF_FFFF in _ISATAP:
        yield last
