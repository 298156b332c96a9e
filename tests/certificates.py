"""A certificate authority for tests, by openssl: certificates for servers on loopback and for clients."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

NAMES = "DNS:localhost,IP:127.0.0.1"


@dataclass(frozen=True)
class Certificate:
    """The files of a certificate and of its key (PEM)."""

    certificate: Path
    key: Path


class Authority:
    """An authority with its files in ``directory``, which exists."""

    def __init__(self, directory: Path, name: str = "authority") -> None:
        self._directory = directory
        self._own = self._make(
            name, "-x509", "-subj", f"/CN={name}", "-addext", "keyUsage=critical,keyCertSign,cRLSign"
        )

    @property
    def certificate(self) -> Path:
        """What trusts this authority is given."""
        return self._own.certificate

    def issue(self, name: str, *, subject_names: str = NAMES) -> Certificate:
        """A certificate for a server that is reached by ``subject_names``, or for a client."""
        return self._make(
            name, "-x509", "-CA", str(self._own.certificate), "-CAkey", str(self._own.key), "-subj", f"/CN={name}",
            "-addext", f"subjectAltName={subject_names}", "-addext", "basicConstraints=critical,CA:FALSE",
            "-addext", "extendedKeyUsage=serverAuth,clientAuth",
        )  # fmt: skip

    def _make(self, name: str, *arguments: str) -> Certificate:
        made = Certificate(self._directory / f"{name}.crt", self._directory / f"{name}.key")
        command = [
            "openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
            "-keyout", str(made.key), "-out", str(made.certificate), *arguments,
        ]  # fmt: skip
        subprocess.run(command, check=True, capture_output=True)
        return made
