"""Addresses: no form of an address is less denied than the address itself, and a list allows what it holds."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address

from hypothesis import given
from hypothesis import strategies as st

from streams.addresses import carried, kind
from streams.allowed import AllowList, denial

IPV4 = st.ip_addresses(v=4).map(IPv4Address)
SPECIAL = st.sampled_from(["0.0.0.0/8", "10.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "192.168.0.0/16", "224.0.0.0/4"])
INSIDE = SPECIAL.flatmap(lambda network: st.ip_addresses(network=network)).map(IPv4Address)


def forms(address: IPv4Address) -> list[IPv6Address]:
    """All IPv6 addresses that lead to this one."""
    number = int(address)
    return [
        IPv6Address((0xFFFF << 32) | number),
        IPv6Address(number),
        IPv6Address((0x0064FF9B << 96) | number),
        IPv6Address((0x2002 << 112) | (number << 80)),
        IPv6Address((0x20010000 << 96) | (number << 64) | 0xFFFFFFFF),
        IPv6Address((0x20010000 << 96) | (0x08080808 << 64) | (number ^ 0xFFFFFFFF)),
    ]


@given(IPV4 | INSIDE)
def test_forms_are_denied_whatever_they_carry(address: IPv4Address) -> None:
    """Nobody gets to an address in a disguise, be it public or not."""
    for form in forms(address):
        assert kind(form) is not None
        assert denial("x", 80, [form], AllowList()) is not None


@given(INSIDE)
def test_an_allowed_form_does_not_allow_what_it_carries(address: IPv4Address) -> None:
    """A list of all IPv6 addresses leads to no IPv4 address that is not on it."""
    everywhere = AllowList.parse("::/0")
    for form in forms(address):
        if carried(form):
            assert denial("x", 80, [form], everywhere) is not None


@given(INSIDE, st.integers(8, 32), st.integers(1, 65_535), st.integers(1, 65_535))
def test_a_range_allows_what_it_holds(address: IPv4Address, bits: int, port: int, other: int) -> None:
    """On its port, and in the notation of IPv6 too; nothing on another port."""
    network = IPv4Network((int(address), bits), strict=False)
    listed = AllowList.parse(f"{network}:{port}")
    mapped = forms(address)[0]
    assert denial("x", port, [address, mapped], listed) is None
    assert (denial("x", other, [address], listed) is None) == (port == other)


@given(st.ip_addresses(), st.ip_addresses())
def test_the_answer_does_not_depend_on_the_order(
    one: IPv4Address | IPv6Address, two: IPv4Address | IPv6Address
) -> None:
    """Of two addresses each is judged."""
    found = denial("x", 80, [one, two], AllowList()) is None
    assert found == (denial("x", 80, [two, one], AllowList()) is None)
    assert found == (kind(one) is None and kind(two) is None)
