"""WEBHOOK_ALLOW: where webhooks may go besides public addresses; and whether they may go to a host with its addresses. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Final, NamedTuple

import httpx

from schemas.errors import BadSetting
from streams.addresses import IPAddress, IPNetwork, carried, is_mapped, kind

SETTING: Final = "WEBHOOK_ALLOW"
_WITH_PORT: Final = re.compile(r"(?P<host>\[[^\[\]]*\]|[^:]*):(?P<port>[0-9]{1,5})")
_NAME: Final = re.compile(r"(?:\*\.)?[^\s/?#@:\[\]\\*%,.]+(?:\.[^\s/?#@:\[\]\\*%,.]+)*\.?")
_FORMS: Final = (
    "a host name, *.example.com, an address or a range such as 10.0.0.0/8 is needed, each with :8080 behind it "
    "if one port is meant ([::1]:8080 for IPv6); every address is 0.0.0.0/0,::/0"
)
_MAPPED_BITS: Final = 96


@dataclass(frozen=True, slots=True)
class Entry:
    """One exception: a name in small letters (`*.` before it: every name below it) or a network; `port` None: all ports."""

    name: str | None
    network: IPNetwork | None
    port: int | None


class Denial(NamedTuple):
    """The address for which a host is refused, and what kind of address it is."""

    address: IPAddress
    kind: str


@dataclass(frozen=True, slots=True)
class AllowList:
    """The exceptions that the operator made."""

    entries: tuple[Entry, ...] = ()

    @classmethod
    def parse(cls, text: str) -> AllowList:
        """The list that `text` writes down, its entries separated by commas. Raises BadSetting."""
        return cls(tuple(_entry(part) for part in map(str.strip, text.split(",")) if part))

    def names(self, host: str, port: int) -> bool:
        """Whether the host is on the list by its name, whatever it resolves to."""
        plain = host.lower().removesuffix(".")
        return any(
            entry.name is not None and _is_named(plain, entry.name) and entry.port in (None, port)
            for entry in self.entries
        )

    def holds(self, address: IPAddress, port: int) -> bool:
        """Whether the address is on the list."""
        return any(
            entry.network is not None
            and entry.network.version == address.version
            and address in entry.network
            and entry.port in (None, port)
            for entry in self.entries
        )


def denial(host: str, port: int, addresses: Iterable[IPAddress], allowed: AllowList) -> Denial | None:
    """Why nobody may be sent to `host`, which resolves to `addresses`; None when it is allowed. One bad address is enough."""
    if allowed.names(host, port):
        return None
    return next(filter(None, (_denied(address, port, allowed) for address in addresses)), None)


def _denied(address: IPAddress, port: int, allowed: AllowList) -> Denial | None:
    """An address that leads to another one is allowed only where both are; the two notations of one address are one."""
    judged = (address, *carried(address))
    if is_mapped(address) and allowed.holds(judged[1], port):
        return None
    for each in judged:
        its_kind = kind(each)
        if its_kind is not None and not allowed.holds(each, port):
            return Denial(each, its_kind)
    return None


def _is_named(host: str, pattern: str) -> bool:
    return host.endswith(pattern[1:]) if pattern.startswith("*.") else host == pattern


def _entry(text: str) -> Entry:
    found = _WITH_PORT.fullmatch(text)
    host, port = (text, None) if found is None else (found["host"], int(found["port"]))
    if port is not None and not 0 < port < 65_536:
        raise _refused(text, f"there is no port {port}")
    bracketed = host.startswith("[") and host.endswith("]")
    network = _network(host[1:-1] if bracketed else host, text)
    return Entry(None if network is not None else _name(host, text), network, port)


def _network(host: str, entry: str) -> IPNetwork | None:
    """The range or the single address that is written, None where it is neither. IPv4 is IPv4 in either notation."""
    try:
        network = ip_network(host, strict=False)
    except ValueError:
        return None
    if "/" in host and network.network_address != ip_network(host.partition("/")[0]).network_address:
        raise _refused(entry, f"this address stands within the range {network}; write that, or the address alone")
    if isinstance(network, IPv6Network) and is_mapped(network[0]) and network.prefixlen >= _MAPPED_BITS:
        return IPv4Network((carried(network[0])[0], network.prefixlen - _MAPPED_BITS))
    return network


def _name(host: str, entry: str) -> str:
    """The name as it stands in a request: in small letters, and in ASCII."""
    if not _NAME.fullmatch(host):
        raise _refused(entry, _FORMS)
    star = "*." if host.startswith("*.") else ""
    try:
        return star + httpx.URL(f"http://{host.removeprefix(star).removesuffix('.')}").raw_host.decode()
    except (httpx.InvalidURL, ValueError):
        raise _refused(entry, _FORMS) from None


def _refused(entry: str, reason: str) -> BadSetting:
    return BadSetting(name=SETTING, value=entry[:200], reason=reason)
