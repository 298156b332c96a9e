"""Where packages come from: what the administrator may set, and what a source is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

DEBIAN_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveSettings:
    """The engine's archive configuration; what is not set comes from the host's apt sources.

    ``mirrors`` are archive roots (``http://host/debian``); each is asked for those ``suites`` that it has.
    ``keyring`` holds the keys that may sign (gpgv format). ``apt_directory`` is where the host's sources are read.
    ``check_dates`` turns the Valid-Until check on or off; unset, the host's apt configuration decides
    (``Acquire::Check-Valid-Until``). ``source_date_epoch`` (seconds) is the newest time that may appear in an
    image; unset, it is the newest package's build time.
    """

    mirrors: tuple[str, ...] = ()
    suites: tuple[str, ...] = ()
    components: tuple[str, ...] = ()
    keyring: Path = DEBIAN_KEYRING
    apt_directory: Path = Path("/etc/apt")
    check_dates: bool | None = None
    source_date_epoch: int | None = None


@dataclass(frozen=True, slots=True, order=True)
class ArchiveSource:
    """One suite of one archive: ``uri`` has no trailing slash, ``components`` are names such as ``main``.

    ``is_certain`` is false for an entry that does not name the archive's key and may be another vendor's.
    """

    uri: str
    suite: str
    components: tuple[str, ...]
    is_certain: bool = True

    @property
    def release_url(self) -> str:
        """The directory that holds the suite's ``InRelease``."""
        return f"{self.uri}/dists/{self.suite}"

    def __str__(self) -> str:
        return f"{self.uri} {self.suite}"


@dataclass(frozen=True, slots=True)
class DebianRelease:
    """A release by its version (``12``) and its code name (``bookworm``)."""

    version: str
    codename: str

    @property
    def suites(self) -> tuple[str, ...]:
        """The suites that make up the release, as the archive names them since Debian 11."""
        return (self.codename, f"{self.codename}-updates", f"{self.codename}-security")


RELEASES: tuple[DebianRelease, ...] = (DebianRelease("12", "bookworm"),)
"""The releases that can be assembled; the first is ``latest``."""
