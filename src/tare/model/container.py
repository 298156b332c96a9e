"""The documents that describe a container, in the Engine API's terms (API 1.51 ContainerConfig, HostConfig, …).

The engine stores them and the API reads and writes them; fields that Tare does not act on are kept as given in the
request's JSON only where Docker shows them again in ``inspect``.
"""

from __future__ import annotations

from typing import Any

import msgspec

from tare.errors import Diagnosis


class HealthConfig(msgspec.Struct, rename="pascal", omit_defaults=True, kw_only=True):
    """A health check; durations in nanoseconds."""

    test: list[str] | None = None
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


class ContainerConfig(msgspec.Struct, rename="pascal", kw_only=True):
    """What is the same wherever the container runs (API ``ContainerConfig``)."""

    hostname: str = ""
    domainname: str = ""
    user: str = ""
    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    exposed_ports: dict[str, dict[str, Any]] | None = None
    tty: bool = False
    open_stdin: bool = False
    stdin_once: bool = False
    env: list[str] | None = None
    cmd: list[str] | None = None
    healthcheck: HealthConfig | None = None
    args_escaped: bool = False
    image: str = ""
    volumes: dict[str, dict[str, Any]] | None = None
    working_dir: str = ""
    entrypoint: list[str] | None = None
    network_disabled: bool = False
    mac_address: str = ""
    on_build: list[str] | None = None
    labels: dict[str, str] | None = None
    stop_signal: str = ""
    stop_timeout: int | None = None
    shell: list[str] | None = None


class PortBinding(
    msgspec.Struct,
    rename={"host_ip": "HostIp", "host_port": "HostPort", "sources": "From"},
    omit_defaults=False,
    kw_only=True,
):
    """A place on the host that reaches a container port; an empty port means any free one.

    ``sources`` (CIDR blocks) alone may come; Docker has no such member.
    """

    host_ip: str = ""
    host_port: str = ""
    sources: list[str] | msgspec.UnsetType = msgspec.UNSET


class RestartPolicy(msgspec.Struct, rename="pascal", kw_only=True):
    """When a stopped container is started again."""

    name: str = ""
    maximum_retry_count: int = 0


class LogConfig(msgspec.Struct, rename="pascal", kw_only=True):
    """Log driver and its options."""

    type: str = ""
    config: dict[str, str] | None = None


class Ulimit(msgspec.Struct, rename="pascal", kw_only=True):
    """A resource limit (setrlimit(2)) by its name without ``RLIMIT_``."""

    name: str
    soft: int
    hard: int


class DeviceMapping(msgspec.Struct, rename="pascal", kw_only=True):
    """A host device made visible in the container."""

    path_on_host: str
    path_in_container: str = ""
    cgroup_permissions: str = "rwm"


class WeightDevice(msgspec.Struct, rename="pascal", kw_only=True):
    """The block I/O weight of one device of the host, 10 to 1000."""

    path: str
    weight: int = 0


class ThrottleDevice(msgspec.Struct, rename="pascal", kw_only=True):
    """Bytes or operations per second of one device of the host."""

    path: str
    rate: int = 0


class MountRequest(msgspec.Struct, rename="pascal", omit_defaults=True, kw_only=True):
    """One ``--mount`` (API ``Mount``): type is bind, volume, tmpfs or image."""

    target: str = ""
    source: str = ""
    type: str = ""
    read_only: bool = False
    consistency: str = ""
    bind_options: dict[str, Any] | None = None
    volume_options: dict[str, Any] | None = None
    tmpfs_options: dict[str, Any] | None = None
    image_options: dict[str, Any] | None = None


class HostConfig(
    msgspec.Struct,
    rename={
        "binds": "Binds",
        "container_id_file": "ContainerIDFile",
        "log_config": "LogConfig",
        "network_mode": "NetworkMode",
        "port_bindings": "PortBindings",
        "restart_policy": "RestartPolicy",
        "auto_remove": "AutoRemove",
        "volume_driver": "VolumeDriver",
        "volumes_from": "VolumesFrom",
        "console_size": "ConsoleSize",
        "annotations": "Annotations",
        "cap_add": "CapAdd",
        "cap_drop": "CapDrop",
        "cgroupns_mode": "CgroupnsMode",
        "dns": "Dns",
        "dns_options": "DnsOptions",
        "dns_search": "DnsSearch",
        "extra_hosts": "ExtraHosts",
        "group_add": "GroupAdd",
        "ipc_mode": "IpcMode",
        "cgroup": "Cgroup",
        "links": "Links",
        "oom_score_adj": "OomScoreAdj",
        "pid_mode": "PidMode",
        "privileged": "Privileged",
        "publish_all_ports": "PublishAllPorts",
        "readonly_rootfs": "ReadonlyRootfs",
        "security_opt": "SecurityOpt",
        "storage_opt": "StorageOpt",
        "tmpfs": "Tmpfs",
        "uts_mode": "UTSMode",
        "userns_mode": "UsernsMode",
        "shm_size": "ShmSize",
        "sysctls": "Sysctls",
        "runtime": "Runtime",
        "isolation": "Isolation",
        "cpu_shares": "CpuShares",
        "memory": "Memory",
        "nano_cpus": "NanoCpus",
        "cgroup_parent": "CgroupParent",
        "blkio_weight": "BlkioWeight",
        "blkio_weight_device": "BlkioWeightDevice",
        "blkio_device_read_bps": "BlkioDeviceReadBps",
        "blkio_device_write_bps": "BlkioDeviceWriteBps",
        "blkio_device_read_iops": "BlkioDeviceReadIOps",
        "blkio_device_write_iops": "BlkioDeviceWriteIOps",
        "cpu_period": "CpuPeriod",
        "cpu_quota": "CpuQuota",
        "cpu_realtime_period": "CpuRealtimePeriod",
        "cpu_realtime_runtime": "CpuRealtimeRuntime",
        "cpuset_cpus": "CpusetCpus",
        "cpuset_mems": "CpusetMems",
        "devices": "Devices",
        "device_cgroup_rules": "DeviceCgroupRules",
        "device_requests": "DeviceRequests",
        "memory_reservation": "MemoryReservation",
        "memory_swap": "MemorySwap",
        "memory_swappiness": "MemorySwappiness",
        "oom_kill_disable": "OomKillDisable",
        "init": "Init",
        "pids_limit": "PidsLimit",
        "ulimits": "Ulimits",
        "mounts": "Mounts",
        "masked_paths": "MaskedPaths",
        "readonly_paths": "ReadonlyPaths",
    },
    kw_only=True,
):
    """What depends on the host (API ``HostConfig``); sizes in bytes, CPU times in microseconds."""

    binds: list[str] | None = None
    container_id_file: str = ""
    log_config: LogConfig = msgspec.field(default_factory=LogConfig)
    network_mode: str = ""
    port_bindings: dict[str, list[PortBinding] | None] | None = None
    restart_policy: RestartPolicy = msgspec.field(default_factory=RestartPolicy)
    auto_remove: bool = False
    volume_driver: str = ""
    volumes_from: list[str] | None = None
    console_size: list[int] | None = None
    annotations: dict[str, str] | None = None
    cap_add: list[str] | None = None
    cap_drop: list[str] | None = None
    cgroupns_mode: str = ""
    dns: list[str] | None = None
    dns_options: list[str] | None = None
    dns_search: list[str] | None = None
    extra_hosts: list[str] | None = None
    group_add: list[str] | None = None
    ipc_mode: str = ""
    cgroup: str = ""
    links: list[str] | None = None
    oom_score_adj: int = 0
    pid_mode: str = ""
    privileged: bool = False
    publish_all_ports: bool = False
    readonly_rootfs: bool = False
    security_opt: list[str] | None = None
    storage_opt: dict[str, str] | None = None
    tmpfs: dict[str, str] | None = None
    uts_mode: str = ""
    userns_mode: str = ""
    shm_size: int = 0
    sysctls: dict[str, str] | None = None
    runtime: str = ""
    isolation: str = ""
    cpu_shares: int = 0
    memory: int = 0
    nano_cpus: int = 0
    cgroup_parent: str = ""
    blkio_weight: int = 0
    blkio_weight_device: list[WeightDevice] | None = None
    blkio_device_read_bps: list[ThrottleDevice] | None = None
    blkio_device_write_bps: list[ThrottleDevice] | None = None
    blkio_device_read_iops: list[ThrottleDevice] | None = None
    blkio_device_write_iops: list[ThrottleDevice] | None = None
    cpu_period: int = 0
    cpu_quota: int = 0
    cpu_realtime_period: int = 0
    cpu_realtime_runtime: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    devices: list[DeviceMapping] | None = None
    device_cgroup_rules: list[str] | None = None
    device_requests: list[dict[str, Any]] | None = None
    memory_reservation: int = 0
    memory_swap: int = 0
    memory_swappiness: int | None = None
    oom_kill_disable: bool | None = None
    init: bool | None = None
    pids_limit: int | None = None
    ulimits: list[Ulimit] | None = None
    mounts: list[MountRequest] | None = None
    masked_paths: list[str] | None = None
    readonly_paths: list[str] | None = None


class EndpointIPAMConfig(
    msgspec.Struct,
    rename={
        "ipv4_address": "IPv4Address",
        "ipv6_address": "IPv6Address",
        "link_local_ips": "LinkLocalIPs",
    },
    omit_defaults=True,
    kw_only=True,
):
    """Addresses that the user asked for."""

    ipv4_address: str = ""
    ipv6_address: str = ""
    link_local_ips: list[str] | None = None


class EndpointSettings(
    msgspec.Struct,
    rename={
        "ipam_config": "IPAMConfig",
        "links": "Links",
        "aliases": "Aliases",
        "mac_address": "MacAddress",
        "driver_opts": "DriverOpts",
        "gw_priority": "GwPriority",
        "network_id": "NetworkID",
        "endpoint_id": "EndpointID",
        "gateway": "Gateway",
        "ip_address": "IPAddress",
        "ip_prefix_len": "IPPrefixLen",
        "ipv6_gateway": "IPv6Gateway",
        "global_ipv6_address": "GlobalIPv6Address",
        "global_ipv6_prefix_len": "GlobalIPv6PrefixLen",
        "dns_names": "DNSNames",
    },
    kw_only=True,
):
    """A container's place on one network: asked-for values and, once connected, the real ones."""

    ipam_config: EndpointIPAMConfig | None = None
    links: list[str] | None = None
    aliases: list[str] | None = None
    mac_address: str = ""
    driver_opts: dict[str, str] | None = None
    gw_priority: int = 0
    network_id: str = ""
    endpoint_id: str = ""
    gateway: str = ""
    ip_address: str = ""
    ip_prefix_len: int = 0
    ipv6_gateway: str = ""
    global_ipv6_address: str = ""
    global_ipv6_prefix_len: int = 0
    dns_names: list[str] | None = None


class NetworkingConfig(msgspec.Struct, rename="pascal", kw_only=True):
    """The networks asked for at creation, by name or id."""

    endpoints_config: dict[str, EndpointSettings | None] | None = None


class MountPoint(
    msgspec.Struct,
    rename={
        "type": "Type",
        "name": "Name",
        "source": "Source",
        "destination": "Destination",
        "driver": "Driver",
        "mode": "Mode",
        "rw": "RW",
        "propagation": "Propagation",
    },
    omit_defaults=False,
    kw_only=True,
):
    """A mount that a container has (API ``MountPoint``); ``name`` is the volume's."""

    type: str
    source: str
    destination: str
    name: str = ""
    driver: str = ""
    mode: str = ""
    rw: bool = True
    propagation: str = ""


class MountDetail(msgspec.Struct, omit_defaults=True, kw_only=True):
    """What a mount is beyond its MountPoint.

    ``subpath`` is inside the volume or image, ``image`` the image's id. ``recursive``: with the mounts below the
    source. ``read_only_below``: empty (those are read-only too where the kernel can), ``force``, ``never``.
    ``idmap``: None, or Podman's grammar; empty maps the container's user to the owner of the files. ``tmpfs`` are the
    mount options of one.
    """

    subpath: str = ""
    image: str = ""
    recursive: bool = True
    read_only_below: str = ""
    idmap: str | None = None
    tmpfs: str = ""


class HealthState(msgspec.Struct, kw_only=True):
    """What is known of a container's health: ``starting``, ``healthy`` or ``unhealthy``, and failures in a row."""

    status: str = "starting"
    failing_streak: int = 0


class ContainerState(msgspec.Struct, kw_only=True):
    """What happened to the container's process; times are RFC 3339 with nanoseconds, zero time where not yet."""

    status: str = "created"
    pid: int = 0
    conmon_pid: int = 0
    exit_code: int = 0
    error: str = ""
    oom_killed: bool = False
    started_at: str = "0001-01-01T00:00:00Z"
    finished_at: str = "0001-01-01T00:00:00Z"
    restart_count: int = 0
    removing: bool = False
    stopped_by_user: bool = False
    diagnosis: Diagnosis | None = None
    stopping: bool = False  # a stop was asked for and has not come to its end
    restart_delay: float = 0.0  # seconds before the last restart; doubled with each quick end
    restart_at: str = "0001-01-01T00:00:00Z"  # when a container that is restarting is started
    health: HealthState | None = None  # none as long as nothing was ever checked


class IdRange(msgspec.Struct, frozen=True, kw_only=True):
    """The ids of the host that a container has to itself: its 0 is ``first``, and there are ``size`` of them."""

    first: int
    size: int


class Container(msgspec.Struct, kw_only=True):
    """A container as the engine stores it. ``created`` is RFC 3339; ``path`` and ``args`` are what is executed."""

    id: str
    name: str
    created: str
    image_id: str
    image_name: str
    path: str
    args: list[str]
    config: ContainerConfig
    host_config: HostConfig
    networking: dict[str, EndpointSettings]
    mounts: list[MountPoint]
    state: ContainerState = msgspec.field(default_factory=ContainerState)
    ports: dict[str, list[PortBinding] | None] = {}
    platform: str = "linux"
    ids: IdRange | None = None
    mount_details: dict[str, MountDetail] = {}
