"""The daemon's configuration: a TOML file, overridden by command-line options.

::

    data_root = "/var/lib/tare"
    run_root = "/run/tare"
    socket = "/run/tare/tare.sock"

    [build]
    host_ca = true              # RUN steps trust what the host trusts
    cache_limit = "10%"         # of the disk, or a size; default: 10%, at most 50 GB; "0": none
    cache_keep_recent = "48h"   # cache mounts unused for as long go first
    max_archive_entries = 1000000    # what contexts and archives of ADD may unpack to; sizes are in bytes
    max_archive_bytes = 68719476736
    max_archive_ratio = 200          # unpacked to compressed
    max_download_bytes = 34359738368 # one file or repository
    fetch_seconds = 3600             # one fetch
    source_cache_bytes = 4294967296  # fetched sources that are kept for the next build
    keep_steps = 10             # failed steps whose file system is kept; 0: none
    keep_days = 7.0             # and for how long

    [archive]
    mirrors = []                # default: the host's apt sources
    suites = []
    components = []
    keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
    check_dates = true          # refuse expired release files; default: as the host's apt does

    [logs]
    driver = "json-file"        # or local, none: for containers that name none
    max_size = "20m"            # a log file; "-1": no limit
    max_file = 5                # files kept of one log

    [network]
    default_subnet = ""
    mtu = 1500
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any

import msgspec

from tare.build.cache.policy import CacheLimits
from tare.build.sources.limits import SourceLimits
from tare.engine.paths import DEFAULT_DATA_ROOT, DEFAULT_RUN_ROOT
from tare.errors import InvalidArgument, NotFound
from tare.runtime.log_options import DEFAULT_DRIVER, LogDefaults, check

DEFAULT_CONFIG = Path("/etc/tare/tare.toml")


_LIMITS = SourceLimits()
_Amount = Annotated[int, msgspec.Meta(ge=1)]


class BuildSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Section ``build``; empty texts mean the defaults of :class:`tare.build.cache.policy.CacheLimits`.

    ``keep_steps`` failed steps are kept for ``keep_days`` days.
    """

    host_ca: bool = True
    max_archive_entries: _Amount = _LIMITS.archive_entries
    max_archive_bytes: _Amount = _LIMITS.archive_bytes
    max_archive_ratio: _Amount = _LIMITS.archive_ratio
    max_download_bytes: _Amount = _LIMITS.download
    fetch_seconds: _Amount = _LIMITS.seconds
    source_cache_bytes: _Amount = _LIMITS.cache
    cache_limit: str = ""
    cache_keep_recent: str = ""
    keep_steps: Annotated[int, msgspec.Meta(ge=0)] = 10
    keep_days: Annotated[float, msgspec.Meta(ge=0)] = 7.0

    @property
    def cache_limits(self) -> CacheLimits:
        """What the collection of the build cache keeps to. Raises InvalidArgument."""
        return CacheLimits.parse(self.cache_limit, self.cache_keep_recent)


class ArchiveSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Section ``archive``: where Debian packages come from; empty lists mean the host's apt sources."""

    mirrors: list[str] = []
    suites: list[str] = []
    components: list[str] = []
    keyring: str = ""
    check_dates: bool | None = None


class LogSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Section ``logs``: driver and options of containers that name none; empty values mean the driver's defaults."""

    driver: str = DEFAULT_DRIVER
    max_size: str = ""
    max_file: Annotated[int, msgspec.Meta(ge=0)] = 0

    @property
    def defaults(self) -> LogDefaults:
        """As the engine takes it. Raises InvalidArgument."""
        given = {"max-size": self.max_size, "max-file": str(self.max_file) if self.max_file else ""}
        options = {name: value for name, value in given.items() if value}
        check(self.driver, options)
        return LogDefaults(driver=self.driver, options=options)


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
    logs: LogSection = LogSection()

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
        settings = msgspec.convert(values, Settings)
        settings.build.cache_limits  # noqa: B018 - says now what is wrong with it
        settings.logs.defaults  # noqa: B018 - as well
    except msgspec.ValidationError as error:
        raise InvalidArgument(f"{place}: {error}") from error
    except InvalidArgument as error:
        raise InvalidArgument(f"{place}: {error.message}", hint=error.hint) from error
    return settings
