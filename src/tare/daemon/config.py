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

    [debug]
    image = "tare.local/distroless/static:debug"    # tools of "tare debug" where none are named

    [images]
    max_layer_bytes = 68719476736    # what a layer from a registry or an archive may unpack to
    max_layer_ratio = 200            # unpacked to compressed

    [archive]
    mirrors = []                # default: the host's apt sources
    suites = []
    components = []
    keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
    check_dates = true          # refuse expired release files; default: as the host's apt does

    [logs]
    driver = "json-file"        # or local, journald, none: for containers that name none
    max_size = "20m"            # a log file; "-1": no limit
    max_file = 5                # files kept of one log

    [network]
    default_subnet = ""         # of the network bridge; empty: from the pools
    publish = "direct"          # or "respect-host-firewall": its input rules govern published ports too
    ipv6 = false                # whether the network bridge has IPv6 as well
    default_subnet6 = ""
    mtu = 1500
    default_address_pools = []  # { base = "10.64.0.0/16", size = 24 }, …: of either family, in place of its own

    [userns]
    first = 1879048192          # ids of the host for --userns auto; those of several engines must not overlap
    count = 268304384

    [runtimes]                  # more OCI runtimes for --runtime: name = program
    youki = "/usr/local/bin/youki"

    [volumes]
    plugin_sockets = "/run/docker/plugins"
    plugin_specs = ["/etc/docker/plugins", "/usr/lib/docker/plugins"]
    plugin_connect_seconds = 30.0    # until a plugin accepts connections, with retries
    plugin_work_seconds = 120.0      # Create, Remove, Mount, Unmount
    plugin_ask_seconds = 60.0        # the other calls
    s3_mount_seconds = 30.0          # until a bucket is mounted

    [registry]
    certificates = ["/etc/tare/certs.d", "/etc/docker/certs.d"]  # <domain>/*.crt, *.cert, *.key

    [registries."docker.io"]    # how a registry is reached, by the domain in images' names; see docs/registries.md
    endpoint = "https://registry.example"   # what serves it; default: https://<domain>, none for docker.io
    mirrors = []                # asked before it, pulls only
    insecure = false            # take any certificate, and plain http; default: only loopback
    ca = ""                     # PEM files: an authority, and what this host shows
    certificate = ""
    key = ""
    proxy = ""                  # default: HTTPS_PROXY, HTTP_PROXY and NO_PROXY of the daemon; "none": no proxy
"""

from __future__ import annotations

import tomllib
from ipaddress import IPv6Network
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from tare.archive.expansion import ExpansionLimits
from tare.build.cache.policy import CacheLimits
from tare.build.sources.limits import SourceLimits
from tare.engine.id_ranges import DEFAULT_COUNT, DEFAULT_FIRST
from tare.engine.option_checks import MIN_USERNS_SIZE
from tare.engine.paths import DEFAULT_DATA_ROOT, DEFAULT_RUN_ROOT
from tare.engine.tools import DEFAULT_TOOLS
from tare.errors import InvalidArgument, NotFound
from tare.kernel.idmap import LAST_ID
from tare.model import Reference
from tare.network.model import LEAST_MTU6, AddressPool
from tare.registry.settings import CERTIFICATE_DIRECTORIES, RegistrySettings
from tare.runtime.log_options import DEFAULT_DRIVER, LogDefaults, check
from tare.volumes.plugins import SOCKETS, SPECS

DEFAULT_CONFIG = Path("/etc/tare/tare.toml")


_LIMITS = SourceLimits()
_EXPANSION = ExpansionLimits()
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


class ImagesSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Section ``images``: how far layers from registries may grow when they are unpacked."""

    max_layer_bytes: _Amount = _EXPANSION.size
    max_layer_ratio: _Amount = _EXPANSION.ratio

    @property
    def layer_limits(self) -> ExpansionLimits:
        """As the store takes them."""
        return ExpansionLimits(size=self.max_layer_bytes, ratio=self.max_layer_ratio)


class DebugSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Section ``debug``: the image whose programs are beside containers and images that are looked into."""

    image: str = DEFAULT_TOOLS

    def __post_init__(self) -> None:
        Reference.parse(self.image)


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
    ipv6: bool = False
    default_subnet6: str = ""
    mtu: int = 0
    default_address_pools: tuple[AddressPool, ...] = ()
    publish: Literal["direct", "respect-host-firewall"] = "direct"

    def __post_init__(self) -> None:
        for pool in self.default_address_pools:
            pool.check()
        if self.default_subnet6:
            IPv6Network(self.default_subnet6)
        if self.ipv6 and 0 < self.mtu < LEAST_MTU6:
            raise ValueError(f"network: IPv6 needs an MTU of {LEAST_MTU6} or more")


class UsernsSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Section ``userns``: the ids of the host that containers of ``--userns auto`` get ranges of."""

    first: Annotated[int, msgspec.Meta(ge=1)] = DEFAULT_FIRST
    count: Annotated[int, msgspec.Meta(ge=MIN_USERNS_SIZE)] = DEFAULT_COUNT

    def __post_init__(self) -> None:
        if self.first + self.count - 1 > LAST_ID:
            raise ValueError(f"userns: ids go up to {LAST_ID}")


_Seconds = Annotated[float, msgspec.Meta(gt=0)]


class VolumesSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Section ``volumes``: where plugins are found, and how long storage may take, in seconds."""

    plugin_sockets: str = str(SOCKETS)
    plugin_specs: tuple[str, ...] = tuple(str(path) for path in SPECS)
    plugin_connect_seconds: _Seconds = 30.0
    plugin_work_seconds: _Seconds = 120.0
    plugin_ask_seconds: _Seconds = 60.0
    s3_mount_seconds: _Seconds = 30.0


class RegistrySection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Section ``registry``: what holds for all registries; directories with certificates by domain."""

    certificates: tuple[str, ...] = CERTIFICATE_DIRECTORIES


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole configuration."""

    data_root: str = str(DEFAULT_DATA_ROOT)
    run_root: str = ""
    socket: str = ""
    runtime: str = ""
    build: BuildSettings = BuildSettings()
    images: ImagesSection = ImagesSection()
    debug: DebugSection = DebugSection()
    archive: ArchiveSection = ArchiveSection()
    network: NetworkSection = NetworkSection()
    userns: UsernsSection = UsernsSection()
    runtimes: dict[str, str] = {}
    volumes: VolumesSection = VolumesSection()
    logs: LogSection = LogSection()
    registry: RegistrySection = RegistrySection()
    registries: dict[str, RegistrySettings] = {}

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
