"""Signatures of outgoing webhooks by the Standard Webhooks specification (HMAC-SHA256, `v1`)."""

from __future__ import annotations

import base64
import binascii
from datetime import UTC, datetime
from typing import Final

from standardwebhooks import Webhook

from streams.secret_values import SecretUnusable

KEY_BYTES: Final = range(24, 65)


def signature_headers(name: str, secret: str, *, key: str, body: bytes, now: float) -> list[tuple[str, str]]:
    """The three headers for a request with exactly this body. Raises SecretUnusable for a secret that holds no key.

    `key`: the idempotency key, the same for all attempts; `now`: seconds since 1970, of this attempt. A secret may hold
    several keys with space between them, old and new: each of them signs.
    """
    message_id, at = key.replace(".", "%2E"), datetime.fromtimestamp(int(now), UTC)
    text = body.decode()  # JSON and texts are UTF-8; the library signs their bytes
    signatures = [Webhook(_key(name, part)).sign(message_id, at, text) for part in secret.split()]
    return [
        ("webhook-id", message_id),
        ("webhook-timestamp", str(int(now))),
        ("webhook-signature", " ".join(signatures)),
    ]


def _key(name: str, text: str) -> bytes:
    encoded = text.removeprefix("whsec_").rstrip("=")
    try:
        key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise SecretUnusable(name=name, reason="a key to sign with is whsec_ and base64, or base64 alone") from None
    if len(key) not in KEY_BYTES:
        reason = f"a key to sign with has {KEY_BYTES.start} to {KEY_BYTES.stop - 1} bytes, in base64; this one has {len(key)}"
        raise SecretUnusable(name=name, reason=reason)
    return key
