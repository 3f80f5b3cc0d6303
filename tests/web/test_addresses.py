"""What is not of the public internet is known by its address, in every form in which it may hide."""

from __future__ import annotations

import ipaddress
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from legato.tools.web.addresses import is_within, refusal_of


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("127.0.0.1", "loopback"),
        ("127.255.255.254", "loopback"),
        ("::1", "loopback"),
        ("0.0.0.0", "unspecified"),
        ("0.1.2.3", "unspecified"),
        ("::", "unspecified"),
        ("10.0.0.1", "private"),
        ("172.16.0.1", "private"),
        ("172.31.255.255", "private"),
        ("192.168.1.1", "private"),
        ("fc00::1", "private"),
        ("fd12:3456::1", "private"),
        ("100.64.0.1", "shared"),
        ("100.127.255.255", "shared"),
        ("169.254.1.1", "link-local"),
        ("fe80::1", "link-local"),
        ("fe80::1%eth0", "link-local"),
        ("2606:4700::1%eth0", "link-local"),
        ("fec0::1", "link-local"),
        ("169.254.169.254", "of a metadata service"),
        ("169.254.170.2", "of a metadata service"),
        ("fd00:ec2::254", "of a metadata service"),
        ("100.100.100.200", "of a metadata service"),
        ("192.0.0.192", "of a metadata service"),
        ("168.63.129.16", "of a metadata service"),
        ("224.0.0.1", "multicast"),
        ("ff02::1", "multicast"),
        ("255.255.255.255", "reserved"),
        ("240.0.0.1", "reserved"),
        ("192.0.2.1", "reserved"),
        ("198.18.0.1", "reserved"),
        ("198.51.100.7", "reserved"),
        ("203.0.113.7", "reserved"),
        ("192.88.99.1", "reserved"),
        ("2001:db8::1", "reserved"),
        ("2001:2::1", "reserved"),
        ("3fff::1", "reserved"),
        ("100::1", "reserved"),
        ("4000::1", "reserved"),
        ("5f00::1", "reserved"),
        # IPv4 inside IPv6
        ("::ffff:127.0.0.1", "loopback"),
        ("::ffff:169.254.169.254", "of a metadata service"),
        ("::127.0.0.1", "loopback"),
        ("::8.8.8.8", "reserved"),  # compatible: given up, no router takes it
        ("::ffff:0:10.0.0.1", "private"),
        ("64:ff9b::10.0.0.1", "private"),
        ("64:ff9b:1::8.8.8.8", "private"),
        ("2002:7f00:1::", "loopback"),
        ("2002:a00:1::1", "private"),
        ("2001:0:a00:1::", "private"),  # Teredo's server
        ("2001:0:808:808::80ff:fffe", "loopback"),  # Teredo's client, 127.0.0.1 inverted
        ("2606:4700::5efe:10.0.0.1", "private"),  # ISATAP
        ("2606:4700::200:5efe:127.0.0.1", "loopback"),
    ],
)
def test_what_is_not_public_is_named(address: str, kind: str) -> None:
    assert refusal_of(ipaddress.ip_address(address)) == kind


@pytest.mark.parametrize(
    "address",
    [
        "8.8.8.8",
        "1.1.1.1",
        "93.184.215.14",
        "172.32.0.1",
        "100.128.0.1",
        "169.253.0.1",
        "223.255.255.255",
        "2606:4700:4700::1111",
        "2a00:1450:4001::200e",
        "::ffff:8.8.8.8",
        "64:ff9b::8.8.8.8",
        "2002:808:808::1",
    ],
)
def test_what_is_public_is_let_through(address: str) -> None:
    assert refusal_of(ipaddress.ip_address(address)) is None


@given(st.ip_addresses(v=4))
def test_what_python_calls_not_global_is_refused_too(address: IPv4Address) -> None:
    assert address.is_global or refusal_of(address) is not None


@given(st.ip_addresses(v=6))
def test_outside_of_global_unicast_only_a_translated_address_is_public(address: IPv6Address) -> None:
    if refusal_of(address) is None and int(address) >> 125 != 1:
        assert address.ipv4_mapped is not None or address in ipaddress.IPv6Network("64:ff9b::/96")


@given(st.ip_addresses(v=4))
def test_an_address_inside_another_is_judged_as_what_it_is(inner: IPv4Address) -> None:
    number = int(inner)
    outer = [
        IPv6Address(0xFFFF << 32 | number),
        IPv6Address(0x64FF9B << 96 | number),
        IPv6Address(0x2002 << 112 | number << 80 | 1),
    ]
    assert {refusal_of(one) for one in outer} == {refusal_of(inner)}


@given(st.ip_addresses(v=4, network="10.0.0.0/8"), st.integers(0, 2**64 - 1))
def test_a_private_address_is_found_in_either_half_of_a_teredo_address(inner: IPv4Address, other: int) -> None:
    server = 0x2001_0000 << 96 | int(inner) << 64 | other
    client = 0x2001_0000 << 96 | int(IPv4Address("8.8.8.8")) << 64 | (~int(inner) & 0xFFFF_FFFF)
    assert refusal_of(IPv6Address(server)) is not None
    assert refusal_of(IPv6Address(client)) == "private" or inner == IPv4Address("10.0.0.0")


def test_a_network_that_was_allowed_holds_the_mapped_form_of_its_addresses() -> None:
    networks = (ipaddress.ip_network("10.1.0.0/16"),)
    assert is_within(ipaddress.ip_address("10.1.2.3"), networks)
    assert is_within(ipaddress.ip_address("::ffff:10.1.2.3"), networks)
    assert not is_within(ipaddress.ip_address("10.2.0.1"), networks)
    assert not is_within(ipaddress.ip_address("2002:a01:203::1"), networks)
