"""What kind of address an address is."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from streams.addresses import carried, is_mapped, kind


@pytest.mark.parametrize(
    "address",
    ["8.8.8.8", "1.1.1.1", "93.184.215.14", "172.15.255.255", "172.32.0.0", "192.167.255.255", "100.128.0.0",
     "2606:4700::1111", "2001:4860:4860::8888", "2a00:1450:4001:80b::200e"],
)  # fmt: skip
def test_public_addresses(address: str) -> None:
    """What the registries give out to anybody."""
    assert kind(ip_address(address)) is None
    assert carried(ip_address(address)) == ()


@pytest.mark.parametrize(
    ("address", "its_kind"),
    [
        ("127.0.0.1", "loopback"),
        ("127.255.255.254", "loopback"),
        ("::1", "loopback"),
        ("0.0.0.0", "unspecified"),  # noqa: S104 - nothing is bound
        ("0.1.2.3", "unspecified"),
        ("::", "unspecified"),
        ("10.0.0.1", "private"),
        ("172.16.0.1", "private"),
        ("172.31.255.255", "private"),
        ("192.168.255.255", "private"),
        ("fc00::1", "private"),
        ("fd12:3456::1", "private"),
        ("fec0::1", "private"),
        ("100.64.0.1", "shared by a carrier's customers"),
        ("100.127.255.255", "shared by a carrier's customers"),
        ("169.254.1.1", "link-local"),
        ("fe80::1", "link-local"),
        ("fe80::1%eth0", "link-local"),
        ("169.254.169.254", "a metadata service"),
        ("169.254.170.2", "a metadata service"),
        ("100.100.100.200", "a metadata service"),
        ("168.63.129.16", "a metadata service"),
        ("fd00:ec2::254", "a metadata service"),
        ("224.0.0.1", "multicast"),
        ("239.255.255.255", "multicast"),
        ("ff02::1", "multicast"),
        ("240.0.0.1", "reserved"),
        ("255.255.255.255", "reserved"),
        ("192.0.0.1", "reserved"),
        ("192.0.0.192", "reserved"),
        ("2001:20::1", "reserved"),
        ("192.0.2.1", "for documentation"),
        ("198.51.100.1", "for documentation"),
        ("203.0.113.1", "for documentation"),
        ("2001:db8::1", "for documentation"),
        ("3fff::1", "for documentation"),
        ("198.18.0.1", "for measurements"),
        ("192.88.99.1", "IPv4 behind 6to4"),
        ("4000::1", "not public"),
        ("5f00::1", "not public"),
        ("100::1", "not public"),
        ("2606:4700::1111%eth0", "not public"),
        ("::ffff:0:8.8.8.8", "not public"),
    ],
)
def test_addresses_that_are_not_public(address: str, its_kind: str) -> None:
    """Each has the name of its kind."""
    assert kind(ip_address(address)) == its_kind


@pytest.mark.parametrize(
    ("address", "its_kind", "inside"),
    [
        ("::ffff:127.0.0.1", "IPv4 written as IPv6", ["127.0.0.1"]),
        ("::ffff:8.8.8.8", "IPv4 written as IPv6", ["8.8.8.8"]),
        ("::127.0.0.1", "IPv4 written as IPv6", ["127.0.0.1"]),
        ("64:ff9b::169.254.169.254", "IPv4 behind NAT64", ["169.254.169.254"]),
        ("64:ff9b::8.8.8.8", "IPv4 behind NAT64", ["8.8.8.8"]),
        ("64:ff9b:1::10.0.0.1", "IPv4 behind NAT64", []),
        ("2002:7f00:1::", "IPv4 behind 6to4", ["127.0.0.1"]),
        ("2002:808:808::1", "IPv4 behind 6to4", ["8.8.8.8"]),
        ("2001:0:a00:1:0:0:f5ff:fffe", "IPv4 behind Teredo", ["10.0.0.1", "10.0.0.1"]),
        ("2001:0:4136:e378:8000:63bf:3fff:fdd2", "IPv4 behind Teredo", ["65.54.227.120", "192.0.2.45"]),
    ],
)
def test_ipv6_that_carries_ipv4(address: str, its_kind: str, inside: list[str]) -> None:
    """Is a kind of its own even where the address inside is public, and that address is known."""
    assert kind(ip_address(address)) == its_kind
    assert [str(each) for each in carried(ip_address(address))] == inside


def test_two_notations_of_one_address() -> None:
    """Only the mapped form is connected to as IPv4."""
    assert is_mapped(ip_address("::ffff:127.0.0.1"))
    assert not any(map(is_mapped, map(ip_address, ["::127.0.0.1", "64:ff9b::7f00:1", "127.0.0.1", "::1"])))
