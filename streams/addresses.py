"""What kind of address an IP address is, and which other one it leads to. Pure.

Public is what the registries give out as such: IPv4 without the special ranges, of IPv6 the global unicast range without
its special parts. An IPv6 form that carries an IPv4 address is a kind of its own, whatever it carries.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Final, TypeAlias

IPAddress: TypeAlias = IPv4Address | IPv6Address
IPNetwork: TypeAlias = IPv4Network | IPv6Network

_METADATA: Final = "a metadata service"
_PRIVATE: Final = "private"
_DOCUMENTATION: Final = "for documentation"
_MAPPED: Final = "IPv4 written as IPv6"
_NAT64: Final = "IPv4 behind NAT64"
_6TO4: Final = "IPv4 behind 6to4"
_TEREDO: Final = "IPv4 behind Teredo"
_NOT_PUBLIC: Final = "not public"

_KINDS: Final[tuple[tuple[IPNetwork, str], ...]] = tuple(
    (ip_network(network), kind)
    for network, kind in (
        ("169.254.169.254", _METADATA),
        ("169.254.170.2", _METADATA),
        ("100.100.100.200", _METADATA),
        ("168.63.129.16", _METADATA),
        ("fd00:ec2::254", _METADATA),
        ("fd20:ce::254", _METADATA),
        ("0.0.0.0/8", "unspecified"),
        ("10.0.0.0/8", _PRIVATE),
        ("100.64.0.0/10", "shared by a carrier's customers"),
        ("127.0.0.0/8", "loopback"),
        ("169.254.0.0/16", "link-local"),
        ("172.16.0.0/12", _PRIVATE),
        ("192.0.0.0/24", "reserved"),
        ("192.0.2.0/24", _DOCUMENTATION),
        ("192.88.99.0/24", _6TO4),
        ("192.168.0.0/16", _PRIVATE),
        ("198.18.0.0/15", "for measurements"),
        ("198.51.100.0/24", _DOCUMENTATION),
        ("203.0.113.0/24", _DOCUMENTATION),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
        ("::/128", "unspecified"),
        ("::1/128", "loopback"),
        ("::/96", _MAPPED),
        ("::ffff:0:0/96", _MAPPED),
        ("64:ff9b::/96", _NAT64),
        ("64:ff9b:1::/48", _NAT64),
        ("2001::/32", _TEREDO),
        ("2001::/23", "reserved"),
        ("2001:db8::/32", _DOCUMENTATION),
        ("2002::/16", _6TO4),
        ("3fff::/20", _DOCUMENTATION),
        ("fc00::/7", _PRIVATE),
        ("fe80::/10", "link-local"),
        ("fec0::/10", _PRIVATE),
        ("ff00::/8", "multicast"),
    )
)
"""The first one that holds an address names its kind."""
_PUBLIC_IPV6: Final = IPv6Network("2000::/3")
_NAT64_CARRIES: Final = IPv6Network("64:ff9b::/96")
_LOW: Final = 0xFFFFFFFF


def kind(address: IPAddress) -> str | None:
    """Why the address is none that anybody may be sent to: "loopback", "private", …; None when it is a public one."""
    for network, its_kind in _KINDS:
        if address.version == network.version and address in network:
            return its_kind
    if isinstance(address, IPv6Address) and (address not in _PUBLIC_IPV6 or address.scope_id is not None):
        return _NOT_PUBLIC
    return None if address.is_global else _NOT_PUBLIC


def carried(address: IPAddress) -> tuple[IPv4Address, ...]:
    """The IPv4 addresses that an IPv6 address leads to; none where it is an address of its own.

    Where they stand in `64:ff9b:1::/48` is each network's own choice, so that range gives none.
    """
    if isinstance(address, IPv4Address):
        return ()
    number = int(address)
    if address.sixtofour is not None:
        return (address.sixtofour,)
    if address.teredo is not None:
        return address.teredo
    if address in _NAT64_CARRIES or is_mapped(address) or (number >> 32 == 0 and number > 1):
        return (IPv4Address(number & _LOW),)
    return ()


def is_mapped(address: IPAddress) -> bool:
    """Whether it is an IPv4 address in another notation (`::ffff:127.0.0.1`): a connection to it is one to that."""
    return isinstance(address, IPv6Address) and address.ipv4_mapped is not None
