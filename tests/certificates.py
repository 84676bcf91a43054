"""Certificates for the length of a test, made by the `openssl` command."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Final, NamedTuple

HERE: Final = "DNS:localhost,IP:127.0.0.1"
ELSEWHERE: Final = "DNS:elsewhere.example"
_KEY: Final = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256")


class Pair(NamedTuple):
    """A certificate and its key, as files."""

    certificate: Path
    key: Path

    @property
    def both(self) -> str:
        """One text, as Kafka's PEM key stores want it."""
        return self.key.read_text() + self.certificate.read_text()


class Authority:
    """Who signs; `certificate` is what its friends trust."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self.certificate, self._key = folder / "ca.pem", folder / "ca.key"
        subject = ("-subj", "/CN=An authority of a test", "-days", "2")
        _openssl("req", "-x509", *_KEY, "-nodes", *subject, "-keyout", self._key, "-out", self.certificate)

    def sign(self, name: str, alternatives: str = HERE, *, days: int = 2, password: str | None = None) -> Pair:
        """A pair for the common name `name`. With `days` below 0 it has expired; with a `password` the key is encrypted."""
        pair = Pair(self._folder / f"{name}.pem", self._folder / f"{name}.key")
        request, extension = self._folder / f"{name}.csr", self._folder / f"{name}.ext"
        closed = ("-nodes",) if password is None else ("-passout", f"pass:{password}")
        _openssl("req", *_KEY, *closed, "-subj", f"/CN={name}", "-keyout", pair.key, "-out", request)
        extension.write_text(f"subjectAltName={alternatives}\n")
        signer = ("-CA", self.certificate, "-CAkey", self._key, "-CAcreateserial", "-days", str(days))
        _openssl("x509", "-req", "-in", request, *signer, "-extfile", extension, "-out", pair.certificate)
        return pair


def _openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)
