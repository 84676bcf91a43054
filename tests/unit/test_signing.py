"""Signatures of outgoing webhooks: what the specification's own library accepts, and secrets that are no keys."""

from __future__ import annotations

import base64
import secrets
import time

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from streams.secret_values import SecretUnusable
from streams.signing import signature_headers

KEY = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
"""The one of the specification's examples."""
BODY = '{"test": 2432232314, "für": "dich"}'.encode()


def signed(secret: str = KEY, body: bytes = BODY, key: str = "run-1/step", now: float | None = None) -> dict[str, str]:
    return dict(signature_headers("HOOK", secret, key=key, body=body, now=time.time() if now is None else now))


def test_the_example_of_the_specification() -> None:
    """The signature that its documents give for this id, time and body."""
    headers = signed(body=b'{"test": 2432232314}', key="msg_p5jXN8AQM9LWM0D4loKWxJek", now=1_614_265_330.9)
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


@pytest.mark.parametrize("secret", [KEY, KEY.removeprefix("whsec_"), f" {KEY} ", base64.b64encode(bytes(64)).decode()])
@pytest.mark.parametrize("body", [BODY, b"", b"text"])
def test_a_receiver_with_the_library_believes_it(secret: str, body: bytes) -> None:
    """With and without the prefix, for every kind of body; a changed byte, id or time is noticed."""
    headers = signed(secret, body)
    receiver = Webhook(secret.strip())
    receiver.verify(body, headers, json_parse=False)
    for changed in (
        {**headers, "webhook-id": "run-2/step"},
        {**headers, "webhook-timestamp": str(int(time.time()) - 1)},
    ):
        with pytest.raises(WebhookVerificationError):
            receiver.verify(body, changed, json_parse=False)
    with pytest.raises(WebhookVerificationError):
        receiver.verify(body + b" ", headers, json_parse=False)


def test_while_a_key_is_replaced_both_sign() -> None:
    """A secret of several keys gives a signature of each; a receiver with either of them believes it."""
    new = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
    headers = signed(f"{KEY} {new}\n")
    assert len(headers["webhook-signature"].split()) == 2
    for key in (KEY, new):
        Webhook(key).verify(BODY, headers, json_parse=False)


def test_the_id_is_the_idempotency_key_without_dots() -> None:
    """Dots join id, time and body into what is signed: with one in the id another id, time and body would fit as well."""
    assert signed()["webhook-id"] == "run-1/step"
    assert signed(key="run.1700000000.x/step")["webhook-id"] == "run%2E1700000000%2Ex/step"


@pytest.mark.parametrize(
    ("secret", "says"),
    [
        ("not-base64!", "whsec_ and base64"),
        ("whsec_", "24 to 64 bytes"),
        ("changeme", "24 to 64 bytes"),
        ("whsec_" + base64.b64encode(bytes(23)).decode(), "this one has 23"),
        (base64.b64encode(bytes(65)).decode(), "this one has 65"),
        (f"{KEY} changeme", "24 to 64 bytes"),
        ("whsk_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_ and base64"),
        ("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSé", "whsec_ and base64"),
        ("A" * 33, "whsec_ and base64"),
    ],
)
def test_a_secret_that_is_no_key_is_refused(secret: str, says: str) -> None:
    """With its name and what would be right, and without its value."""
    with pytest.raises(SecretUnusable) as refused:
        signed(secret)
    assert "HOOK" in refused.value.message
    assert says in refused.value.message
    assert secret not in refused.value.message
