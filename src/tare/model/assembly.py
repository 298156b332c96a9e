"""What is asked of the assembler beyond a name of the catalogue: packages, slices of them, pins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tare.model.digest import Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageWish:
    """A package that is wanted: ``version`` is exact (deb-version(7)), empty for the newest.

    ``slices`` names the parts that are taken, none for all of it.
    """

    name: str
    version: str = ""
    slices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemUser:
    """A user that the image shall have (passwd(5)); the group has the same name and number."""

    name: str
    uid: int
    home: str = "/nonexistent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """One package as a lock file holds it: ``sha256`` in hexadecimal and ``size`` in bytes are those of the .deb."""

    name: str
    version: str
    architecture: str
    sha256: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Assembly:
    """Packages that make a root file system.

    ``base`` is an image of the catalogue (``static``, ``base``, ``python3``, …) whose packages, users and links belong
    to it, empty for none. ``slices`` defines further slices: package → name → patterns of paths. ``excluded`` gives
    packages that are left out although others depend on them, each with its reason; ``accepted_scripts`` the packages
    whose maintainer scripts matter and may be left out all the same. ``pins`` None resolves against the archive's
    newest state, else exactly these packages are used. ``epoch`` (seconds) bounds all times. With ``nonroot`` the
    base's service (nginx, postgresql, mariadb) is set up for 65532: its directories, its port.
    """

    release: str = "12"
    base: str = "static"
    packages: tuple[PackageWish, ...] = ()
    slices: Mapping[str, Mapping[str, tuple[str, ...]]] = field(default_factory=dict)
    excluded: Mapping[str, str] = field(default_factory=dict)
    users: tuple[SystemUser, ...] = ()
    accepted_scripts: frozenset[str] = frozenset()
    nonroot: bool = False
    debug: bool = False
    pins: tuple[Pin, ...] | None = None
    epoch: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Assembled:
    """An assembled image, and the packages that it is made of, sorted by name."""

    image: Digest
    pins: tuple[Pin, ...]
