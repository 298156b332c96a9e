"""A container's document from a request and its image: merged, completed with Docker's defaults, checked. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tare.engine.option_checks import check_available, check_capabilities, check_modes, check_tmpfs
from tare.engine.resource_limits import check_limits
from tare.engine.restarts import check_policy
from tare.engine.security_options import read_security
from tare.errors import InvalidArgument
from tare.kernel.cgroups import LimitSupport
from tare.model.container import ContainerConfig, HealthConfig, HostConfig, PortBinding
from tare.network.ports import read_sources
from tare.oci.image import ExecutionConfig
from tare.runtime.log_options import LogDefaults, complete_log_config
from tare.runtime.spec_linux import MASKED_PATHS, READONLY_PATHS

DEFAULT_SHM_SIZE = 64 << 20
_PORT = re.compile(r"(\d+)(?:-(\d+))?(?:/(tcp|udp|sctp))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Command:
    """What is executed: ``path`` with ``args``."""

    path: str
    args: tuple[str, ...]


def merge_config(config: ContainerConfig, image: ExecutionConfig) -> None:
    """Complete ``config`` in place with what the image says, by Docker's rules.

    A command given replaces the image's; an entrypoint given drops the image's command as well.
    """
    config.user = config.user or image.user
    config.working_dir = config.working_dir or image.working_dir
    config.stop_signal = config.stop_signal or image.stop_signal
    config.env = _merge_env(config.env or [], image.env or [])
    if not config.entrypoint:
        if not config.cmd:
            config.cmd = image.cmd
        if config.entrypoint is None:
            config.entrypoint = image.entrypoint
    if config.entrypoint == [""]:
        config.entrypoint = None  # `--entrypoint ""` removes the image's entrypoint
    config.labels = {**(image.labels or {}), **(config.labels or {})}
    if image.exposed_ports or config.exposed_ports:
        config.exposed_ports = {**(image.exposed_ports or {}), **(config.exposed_ports or {})}
    config.volumes = {**(image.volumes or {}), **(config.volumes or {})} or None
    config.on_build = config.on_build or image.on_build
    config.shell = config.shell or image.shell
    if image.healthcheck is not None:
        own = config.healthcheck or HealthConfig()
        base = image.healthcheck
        config.healthcheck = HealthConfig(
            test=own.test or base.test,
            interval=own.interval or base.interval,
            timeout=own.timeout or base.timeout,
            start_period=own.start_period or base.start_period,
            start_interval=own.start_interval or base.start_interval,
            retries=own.retries or base.retries,
        )


def command_of(config: ContainerConfig) -> Command:
    """What ``config`` executes. Raises InvalidArgument when it is nothing."""
    words = [*(config.entrypoint or []), *(config.cmd or [])]
    if not words:
        raise InvalidArgument("no command specified", hint="name one after the image", code="no-command")
    return Command(words[0], tuple(words[1:]))


def complete_host_config(
    host: HostConfig,
    config: ContainerConfig | None = None,
    *,
    runtime: str,
    cgroupns: str,
    support: LimitSupport | None = None,
    logs: LogDefaults | None = None,
) -> list[str]:
    """Fill Docker's defaults into ``host`` in place and check it; returns warnings. Raises InvalidArgument.

    ``support`` tells which limits the kernel keeps (default: all).
    """
    if host.network_mode in ("", "default"):
        host.network_mode = "bridge"
    host.ipc_mode = host.ipc_mode or "private"
    host.cgroupns_mode = host.cgroupns_mode or ("host" if host.privileged else cgroupns)
    host.shm_size = host.shm_size or DEFAULT_SHM_SIZE
    host.pids_limit = host.pids_limit or None
    if host.security_opt is None and (host.privileged or "host" in (host.ipc_mode, host.pid_mode)):
        host.security_opt = ["label=disable"]  # as Docker shows it, with and without SELinux
    host.runtime = host.runtime or runtime
    host.restart_policy.name = host.restart_policy.name or "no"
    complete_log_config(host.log_config, logs or LogDefaults())
    check_policy(host.restart_policy)
    if host.auto_remove and host.restart_policy.name != "no":
        raise InvalidArgument("can't create 'AutoRemove' container with restart policy")
    check_capabilities(host)
    support = support or LimitSupport()
    warnings = check_limits(host, support)
    if host.memory > 0 and host.memory_swap == 0:
        host.memory_swap = 2 * host.memory  # as much swap as memory
    check_modes(config or ContainerConfig(), host, warnings, cgroup_namespaces=support.cgroup_namespaces)
    if host.shm_size < 0:
        raise InvalidArgument("SHM size can not be less than 0")
    if not -1000 <= host.oom_score_adj <= 1000:
        raise InvalidArgument(f"Invalid value {host.oom_score_adj}, range for oom score adj is [-1000, 1000]")
    check_available(host)
    check_tmpfs(host)
    read_security(host)
    _default_paths(host)
    if host.network_mode == "host" and host.port_bindings:
        warnings.append("Published ports are discarded when using host network mode")
    return warnings


def _default_paths(host: HostConfig) -> None:
    if not host.privileged:
        host.masked_paths = list(MASKED_PATHS) if host.masked_paths is None else host.masked_paths
        host.readonly_paths = list(READONLY_PATHS) if host.readonly_paths is None else host.readonly_paths


@dataclass(frozen=True, slots=True)
class WantedPort:
    """A container port to publish; an empty ``host_port`` is any free one, ``8000-8010`` one of these."""

    protocol: str
    container_port: int
    host_ip: str
    host_port: str
    sources: tuple[str, ...] = ()


def wanted_ports(config: ContainerConfig, host: HostConfig) -> list[WantedPort]:
    """The ports to publish, from ``-p`` and, with ``-P``, from EXPOSE. Raises InvalidArgument for a malformed one."""
    wanted = []
    bindings = dict(host.port_bindings or {})
    if host.publish_all_ports:
        for port in config.exposed_ports or {}:
            bindings.setdefault(port, [PortBinding()])
    for port, places in bindings.items():
        number, protocol = parse_port(port)
        for place in places or [PortBinding()]:
            first, dash, last = place.host_port.partition("-")
            numbers = [first, last] if dash else [first] if first else []
            if not all(number.isdecimal() and int(number) < 65536 for number in numbers):
                raise InvalidArgument(f"invalid port specification: {place.host_port!r}")
            if dash and int(last) < int(first):
                raise InvalidArgument(f"invalid port specification: {place.host_port!r}: the range goes backwards")
            sources = read_sources(place.sources or ())
            wanted.append(WantedPort(protocol, number, place.host_ip, place.host_port, sources))
    return wanted


def parse_port(text: str) -> tuple[int, str]:
    """Read ``80/tcp``; the protocol defaults to tcp. Raises InvalidArgument."""
    match = _PORT.fullmatch(text)
    if match is None or not 0 < int(match[1]) < 65536:
        raise InvalidArgument(f"invalid port specification: {text!r}", hint="write 80, 80/tcp or 53/udp")
    return int(match[1]), match[3] or "tcp"


def _merge_env(own: list[str], inherited: list[str]) -> list[str]:
    names = {item.partition("=")[0] for item in own}
    return [*own, *(item for item in inherited if item.partition("=")[0] not in names)]
