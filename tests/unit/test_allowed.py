"""WEBHOOK_ALLOW: what may be written there, and what it allows."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from schemas.errors import BadSetting
from streams.allowed import AllowList, denial


def allowed(setting: str, host: str, *addresses: str, port: int = 80) -> bool:
    return denial(host, port, map(ip_address, addresses), AllowList.parse(setting)) is None


@pytest.mark.parametrize("setting", ["", " ", ",", " , ,"])
def test_by_default_nothing_is_allowed_but_public_addresses(setting: str) -> None:
    """An empty list allows none of the others."""
    assert AllowList.parse(setting).entries == ()
    assert allowed(setting, "example.com", "93.184.215.14", "2606:4700::1111")
    for address in ("127.0.0.1", "10.0.0.1", "::1", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8"):
        assert not allowed(setting, "example.com", address)


def test_one_denied_address_is_enough() -> None:
    """A name that also leads inside is refused whole, wherever in the answer that stands, and the address is told."""
    found = denial("x", 80, map(ip_address, ["8.8.8.8", "10.0.0.1", "1.1.1.1"]), AllowList())
    assert found is not None
    assert (str(found.address), found.kind) == ("10.0.0.1", "private")


@pytest.mark.parametrize(
    ("setting", "host", "port", "expected"),
    [
        ("inside.example", "inside.example", 80, True),
        ("INSIDE.example.", "inside.EXAMPLE", 80, True),
        ("inside.example", "inside.example.", 80, True),
        ("inside.example", "a.inside.example", 80, False),
        ("inside.example", "notinside.example", 80, False),
        ("inside.example:8080", "inside.example", 8080, True),
        ("inside.example:8080", "inside.example", 80, False),
        ("*.example", "a.example", 80, True),
        ("*.example", "a.b.example", 443, True),
        ("*.example", "example", 80, False),
        ("*.example", "aexample", 80, False),
        ("*.example:443", "a.example", 80, False),
        ("bücher.example", "xn--bcher-kva.example", 80, True),
        ("host.docker.internal", "host.docker.internal", 8002, True),
        ("other, inside.example ,more", "inside.example", 80, True),
        ("2130706433", "2130706433", 80, True),
    ],
)
def test_an_allowed_name_allows_whatever_it_resolves_to(setting: str, host: str, port: int, expected: bool) -> None:
    """By its exact name or by one below `*.`, on any port or on one."""
    assert allowed(setting, host, "10.0.0.1", "::1", "169.254.169.254", port=port) is expected


@pytest.mark.parametrize(
    ("setting", "address", "port", "expected"),
    [
        ("127.0.0.1", "127.0.0.1", 80, True),
        ("127.0.0.1", "127.0.0.2", 80, False),
        ("127.0.0.1", "::1", 80, False),
        ("127.0.0.1", "::ffff:127.0.0.1", 80, True),
        ("::ffff:127.0.0.1", "127.0.0.1", 80, True),
        ("::ffff:127.0.0.1", "::ffff:127.0.0.1", 80, True),
        ("127.0.0.1:8002", "127.0.0.1", 8002, True),
        ("127.0.0.1:8002", "127.0.0.1", 8003, False),
        ("::1", "::1", 80, True),
        ("[::1]:8002", "::1", 8002, True),
        ("[::1]:8002", "::1", 80, False),
        ("10.0.0.0/8", "10.255.0.1", 80, True),
        ("10.0.0.0/8:443", "10.255.0.1", 443, True),
        ("10.0.0.0/8:443", "10.255.0.1", 80, False),
        ("10.0.0.0/8", "11.0.0.1", 80, True),  # a public one
        ("10.0.0.0/8", "192.168.0.1", 80, False),
        ("fd00::/8", "fd12::1", 80, True),
        ("[fd00::/8]:443", "fd12::1", 443, True),
        ("fe80::/10", "fe80::1%eth0", 80, True),
        ("0.0.0.0/0", "127.0.0.1", 80, True),
        ("0.0.0.0/0", "::ffff:127.0.0.1", 80, True),
        ("0.0.0.0/0", "::1", 80, False),
        ("::/0", "::1", 80, True),
        ("::/0", "127.0.0.1", 80, False),
        ("::/0", "::ffff:127.0.0.1", 80, False),
        ("64:ff9b::/96", "64:ff9b::8.8.8.8", 80, True),
        ("64:ff9b::/96", "64:ff9b::169.254.169.254", 80, False),
        ("64:ff9b::/96,169.254.169.254", "64:ff9b::169.254.169.254", 80, True),
        ("169.254.169.254", "64:ff9b::169.254.169.254", 80, False),
        ("2002::/16", "2002:7f00:1::", 80, False),
        ("2001::/32", "2001:0:a00:1:0:0:f5ff:fffe", 80, False),
        ("::/96", "::127.0.0.1", 80, False),
    ],
)
def test_an_allowed_address_is_allowed_however_it_was_named(
    setting: str, address: str, port: int, expected: bool
) -> None:
    """In either notation; and an address that leads to another one needs both of them on the list."""
    assert allowed(setting, "any.name", address, port=port) is expected


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("http://x", "a host name"),
        ("x/path", "a host name"),
        ("user@x", "a host name"),
        ("x?y", "a host name"),
        ("a b", "a host name"),
        ("a..b", "a host name"),
        (".x", "a host name"),
        ("*", "0.0.0.0/0,::/0"),
        ("*.", "a host name"),
        ("*.*.x", "a host name"),
        ("a.*.x", "a host name"),
        ("x%41", "a host name"),
        ("x:", "a host name"),
        ("x:0", "no port 0"),
        ("x:65536", "no port 65536"),
        ("x:٣", "a host name"),
        ("[x]:80", "a host name"),
        ("[::1", "a host name"),
        ("10.0.0.0/33", "a host name"),
        ("10.1.2.3/8", "10.0.0.0/8"),
        ("ok.example,10.1.2.3/8", "10.0.0.0/8"),
    ],
)
def test_what_is_no_entry_stops_the_start(setting: str, says: str) -> None:
    """With the setting, the entry, and what would be right."""
    with pytest.raises(BadSetting) as refused:
        AllowList.parse(setting)
    assert refused.value.message.startswith(f"WEBHOOK_ALLOW={setting.rpartition(',')[2]!r} cannot be used")
    assert says in refused.value.message
