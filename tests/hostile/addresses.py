"""Addresses that lead into a network by way of a webhook, in all the forms that something might read them in."""

from __future__ import annotations

from typing import Final

TARGETS: Final = {
    "loopback": "127.0.0.1",
    "loopback, another": "127.8.7.6",
    "decimal": "2130706433",
    "hexadecimal": "0x7f000001",
    "hexadecimal parts": "0x7f.0x0.0x0.0x1",
    "octal": "017700000001",
    "two parts": "127.1",
    "three parts": "127.0.1",
    "mixed bases": "0x7f.1",
    "zero": "0",
    "unspecified": "0.0.0.0",  # noqa: S104 - nothing listens here
    "name": "localhost",
    "name in capitals": "LOCALHOST",
    "ideographic full stops": "127\u30020\u30020\u30021",
    "IPv6 loopback": "[::1]",
    "IPv6 loopback in full": "[0000:0000:0000:0000:0000:0000:0000:0001]",
    "IPv6 unspecified": "[::]",
    "IPv4-mapped": "[::ffff:127.0.0.1]",
    "IPv4-mapped in hexadecimal": "[::ffff:7f00:1]",
    "IPv4-compatible": "[::127.0.0.1]",
    "IPv4-translated": "[::ffff:0:127.0.0.1]",
    "NAT64": "[64:ff9b::7f00:1]",
    "NAT64 of a network's own": "[64:ff9b:1::7f00:1]",
    "6to4": "[2002:7f00:1::]",
    "Teredo": "[2001:0:7f00:1::80ff:fffe]",
    "link-local": "[fe80::1]",
    "unique local": "[fd00::1]",
    "site-local": "[fec0::1]",
    "metadata": "169.254.169.254",
    "metadata in decimal": "2852039166",
    "metadata over IPv6": "[fd00:ec2::254]",
    "metadata of another cloud": "100.100.100.200",
    "private 10": "10.0.0.1",
    "private 172": "172.16.0.1",
    "private 192": "192.168.0.1",
    "carrier": "100.64.0.1",
    "multicast": "224.0.0.1",
    "broadcast": "255.255.255.255",
    "documentation": "192.0.2.1",
    "fragment before a user name": "127.0.0.1#@a.example",
}
"""Name → the host of a URL. None of them is public, whatever reads it."""

UNRESOLVED: Final = {
    "trailing dot": "http://127.0.0.1.:{port}/",
    "name with a trailing dot": "http://localhost.:{port}/",
    "percent-encoded": "http://%31%32%37.0.0.1:{port}/",
    "zone id": "http://[fe80::1%25lo]:{port}/",
    "zone id, not encoded": "http://[::1%lo]:{port}/",
    "url: too many parts": "http://127.0.0.0.0.1:{port}/",
    "url: spaces": "http://127.0.0.1 :{port}/",
}
"""Name → a URL whose host no name server should know; one that does leads to an address that is not public."""

MALFORMED: Final = {
    "octal parts": "http://0177.0.0.01:{port}/",
    "full-width digits": "http://\uff11\uff12\uff17.\uff10.\uff10.\uff11:{port}/",
    "circled digits": "http://\u2460\u2461\u2466.\u24ea.\u24ea.\u2460:{port}/",
    "full-width name": "http://\uff4c\uff4f\uff43\uff41\uff4c\uff48\uff4f\uff53\uff54:{port}/",
    "soft hyphen": "http://local\u00adhost:{port}/",
    "url: user name that looks like a host": "http://a.example@127.0.0.1:{port}/",
    "url: backslash before the user": "http://127.0.0.1:{port}\\@a.example/",
    "url: line feed": "http://127.0.0.1:{port}/\nHost: a.example",
    "url: another scheme": "ftp://127.0.0.1:{port}/",
    "url: no host": "http://:{port}/",
    "url: part past a byte": "http://127.0.0.256:{port}/",
    "url: bracket that stays open": "http://[::1:{port}/",
    "url: empty": "",
}
"""Name → a URL that no request is made of."""
