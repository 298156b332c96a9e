"""The daemon's configuration: a TOML file, overridden by command-line options.

::

    data_root = "/var/lib/tare"
    run_root = "/run/tare"
    socket = "/run/tare/tare.sock"

    [build]
    host_ca = true              # RUN steps trust what the host trusts
    max_archive_entries = 1000000    # what contexts and archives of ADD may unpack to; sizes are in bytes
    max_archive_bytes = 68719476736
    max_archive_ratio = 200          # unpacked to compressed
    max_download_bytes = 34359738368 # one file or repository
    fetch_seconds = 3600             # one fetch
    source_cache_bytes = 4294967296  # fetched sources that are kept for the next build

    [archive]
    mirrors = []                # default: the host's apt sources
    suites = []
    components = []
    keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
    check_dates = true          # refuse expired release files; default: as the host's apt does

    [network]
    default_subnet = ""
    mtu = 1500
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any

import msgspec

from tare.build.sources.limits import SourceLimits
from tare.engine.paths import DEFAULT_DATA_ROOT, DEFAULT_RUN_ROOT
from tare.errors import InvalidArgument, NotFound

DEFAULT_CONFIG = Path("/etc/tare/tare.toml")


_LIMITS = SourceLimits()
_Amount = Annotated[int, msgspec.Meta(ge=1)]


class BuildSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Section ``build``."""

    host_ca: bool = True
    max_archive_entries: _Amount = _LIMITS.archive_entries
    max_archive_bytes: _Amount = _LIMITS.archive_bytes
    max_archive_ratio: _Amount = _LIMITS.archive_ratio
    max_download_bytes: _Amount = _LIMITS.download
    fetch_seconds: _Amount = _LIMITS.seconds
    source_cache_bytes: _Amount = _LIMITS.cache


class ArchiveSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Section ``archive``: where Debian packages come from; empty lists mean the host's apt sources."""

    mirrors: list[str] = []
    suites: list[str] = []
    components: list[str] = []
    keyring: str = ""
    check_dates: bool | None = None


class NetworkSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Section ``network``; ``default_subnet`` is that of the network ``bridge``, ``mtu`` in bytes."""

    default_subnet: str = ""
    mtu: int = 0


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole configuration."""

    data_root: str = str(DEFAULT_DATA_ROOT)
    run_root: str = ""
    socket: str = ""
    runtime: str = ""
    build: BuildSettings = BuildSettings()
    archive: ArchiveSection = ArchiveSection()
    network: NetworkSection = NetworkSection()

    @property
    def run_directory(self) -> Path:
        """The run root; engines with a data root of their own get one of their own below it."""
        if self.run_root:
            return Path(self.run_root)
        return DEFAULT_RUN_ROOT if Path(self.data_root) == DEFAULT_DATA_ROOT else Path(self.data_root) / "run"

    @property
    def socket_path(self) -> Path:
        """Where the API listens."""
        return Path(self.socket) if self.socket else self.run_directory / "tare.sock"


def load_settings(path: Path | None, overrides: dict[str, Any]) -> Settings:
    """Read ``path`` (None: the default place, if there is a file) and apply ``overrides`` that are not None.

    Raises NotFound, InvalidArgument naming the file and the entry.
    """
    values: dict[str, Any] = {}
    place = path or DEFAULT_CONFIG
    if place.exists():
        try:
            values = tomllib.loads(place.read_text())
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise InvalidArgument(f"{place}: {error}") from error
    elif path is not None:
        raise NotFound(f"{path}: no such configuration file")
    values |= {name: value for name, value in overrides.items() if value is not None}
    try:
        return msgspec.convert(values, Settings)
    except msgspec.ValidationError as error:
        raise InvalidArgument(f"{place}: {error}") from error
