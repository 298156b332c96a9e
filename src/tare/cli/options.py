"""The options of ``run`` and ``create``, and the request that they make."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from tare.cli.environment import read_env, read_labels
from tare.cli.flag_documents import (
    read_dns,
    read_dns_search,
    read_extra_hosts,
    read_gpus,
    read_links,
    read_log,
    read_security,
)
from tare.cli.flags import (
    flag_error,
    read_bytes,
    read_cpus,
    read_device,
    read_device_rule,
    read_integer,
    read_mac,
    read_mode,
    read_pairs,
    read_rate_device,
    read_restart,
    read_streams,
    read_swap,
    read_swappiness,
    read_sysctls,
    read_weight_device,
)
from tare.cli.health import HEALTH_OPTIONS, read_health
from tare.cli.limits import read_ulimit
from tare.cli.mounts import read_exposed, read_mount, read_ports, read_tmpfs, read_volumes
from tare.cli.network_options import networking
from tare.errors import InvalidArgument

_RATES = (
    ("device_read_bps", "--device-read-bps", "BlkioDeviceReadBps"),
    ("device_write_bps", "--device-write-bps", "BlkioDeviceWriteBps"),
    ("device_read_iops", "--device-read-iops", "BlkioDeviceReadIOps"),
    ("device_write_iops", "--device-write-iops", "BlkioDeviceWriteIOps"),
)
WRONG_USAGE = 125
F = TypeVar("F", bound=Callable[..., Any])


def _many(*names: str, help: str, **more: Any) -> Callable[[F], F]:  # noqa: A002
    return click.option(*names, multiple=True, help=help, **more)


def _one(*names: str, help: str = "", **more: Any) -> Callable[[F], F]:  # noqa: A002
    return click.option(*names, **{"default": "", "help": help, **more})


def _flag(*names: str, help: str) -> Callable[[F], F]:  # noqa: A002
    return click.option(*names, is_flag=True, help=help)


_OPTIONS: tuple[Callable[[Any], Any], ...] = (
    _many("--add-host", help="Add a line to /etc/hosts: name:address."),
    _many("--annotation", help="Annotation for the OCI runtime: KEY=VALUE."),
    _many("-a", "--attach", help="Attach to a stream: stdin, stdout, stderr."),
    _one("--blkio-weight", help="Weight of its block I/O, 10 to 1000."),
    _many("--blkio-weight-device", help="Weight for one device: PATH:WEIGHT."),
    _many("--cap-add", help="Add a capability."),
    _many("--cap-drop", help="Drop a capability."),
    _one("--cgroup-parent", help="Parent control group."),
    _one("--cgroupns", help="Control group namespace: host or private."),
    _one("--cidfile", help="Write the container's ID to this file."),
    _one("--cpu-period", help="Period of the CPU quota in microseconds."),
    _one("--cpu-quota", help="CPU time per period in microseconds."),
    _one("--cpu-rt-period", help="Period of the real-time quota in microseconds."),
    _one("--cpu-rt-runtime", help="Real-time CPU time per period in microseconds."),
    _one("--cpus", help="Number of CPUs, such as 1.5."),
    _one("-c", "--cpu-shares", help="Weight of its CPU time."),
    _one("--cpuset-cpus", help="CPUs that it may use: 0-3, 0,1."),
    _one("--cpuset-mems", help="Memory nodes that it may use: 0-3, 0,1."),
    _many("--device", help="Add a device of the host: /dev/x[:/dev/y[:rwm]]."),
    _many("--device-cgroup-rule", help="Allow devices: 'c 42:* rmw'."),
    _many("--device-read-bps", help="Limit of bytes read per second: PATH:RATE."),
    _many("--device-read-iops", help="Limit of reads per second: PATH:RATE."),
    _many("--device-write-bps", help="Limit of bytes written per second: PATH:RATE."),
    _many("--device-write-iops", help="Limit of writes per second: PATH:RATE."),
    _many("--dns", help="DNS server."),
    _many("--dns-option", "--dns-opt", help="Option of the resolver."),
    _many("--dns-search", help="DNS search domain."),
    _one("--domainname", help="NIS domain name of the container."),
    click.option("--entrypoint", default=None, help="Program to run instead of the image's entry point."),
    _many("-e", "--env", help="Environment variable: NAME=VALUE, or NAME to pass one on."),
    _many("--env-file", help="Read environment variables from this file."),
    _many("--expose", help="Expose a port or a range of ports."),
    _one("--gpus", help="GPUs to add; refused, as no engine driver gives any."),
    _many("--group-add", help="One more group."),
    _one("-h", "--hostname", help="Host name of the container."),
    _flag("--init", help="Run an init that forwards signals and reaps processes."),
    _flag("-i", "--interactive", help="Keep standard input open."),
    _one("--ip", help="IPv4 address."),
    _one("--ip6", help="IPv6 address."),
    _one("--ipc", help="IPC namespace: none, private, host, shareable, container:NAME."),
    _one("--isolation", help="Isolation technology: default."),
    _one("--kernel-memory", hidden=True),
    _many("-l", "--label", help="Label: KEY=VALUE."),
    _many("--label-file", help="Read labels from this file."),
    _many("--link", help="Know another container by an alias: NAME[:ALIAS]; its name on the default network."),
    _many("--link-local-ip", help="Link-local address."),
    _one("--log-driver", help="Log driver."),
    _many("--log-opt", help="Option of the log driver: KEY=VALUE."),
    _one("--mac-address", help="MAC address."),
    _one("-m", "--memory", help="Memory limit, such as 512m."),
    _one("--memory-reservation", help="Memory that it gets under pressure."),
    _one("--memory-swap", help="Limit of memory and swap together, -1 for unlimited swap."),
    _one("--memory-swappiness", help="How readily it is swapped out, 0 to 100."),
    _many("--mount", help="Mount: type=bind|volume|tmpfs,source=…,target=…[,readonly]."),
    _one("--name", help="Name of the container."),
    _many("--network", "--net", help="Network to connect to: NAME, or name=NAME,alias=…,ip=…,gw-priority=…."),
    _many("--network-alias", "--net-alias", help="One more name of the container on its network."),
    _flag("--oom-kill-disable", help="Don't kill it when memory runs out."),
    _one("--oom-score-adj", help="How readily it is killed when memory runs out, -1000 to 1000."),
    _one("--pid", help="PID namespace: host or container:NAME."),
    _one("--pids-limit", help="Limit of processes, -1 for unlimited."),
    _one("--platform", help="Platform, such as linux/amd64."),
    _flag("--privileged", help="Give it all rights of the host."),
    _many("-p", "--publish", help="Publish a port: [[ip:]hostPort:]containerPort[/protocol][,from=CIDR]."),
    _flag("-P", "--publish-all", help="Publish all exposed ports on free ports."),
    _one("--pull", default="missing", help="When to pull: always, missing, never."),
    _flag("-q", "--quiet", help="Don't show the progress of a pull."),
    _flag("--read-only", help="Mount its root file system read-only."),
    _one("--restart", default="no", help="no, on-failure[:N], always, unless-stopped, on-unhealthy[:N]."),
    _flag("--rm", "auto_remove", help="Remove the container when it ends."),
    _one("--runtime", help="OCI runtime."),
    _many("--security-opt", help="Security option."),
    _one("--shm-size", help="Size of /dev/shm, such as 64m."),
    _one("--stop-signal", help="Signal that stops it."),
    _one("--stop-timeout", help="Seconds until it is killed."),
    _many("--storage-opt", help="Option of the storage driver: size=SIZE."),
    _many("--sysctl", help="Kernel parameter: NAME=VALUE."),
    _many("--tmpfs", help="Mount a tmpfs: /path[:options]."),
    _flag("-t", "--tty", help="Give it a terminal."),
    _many("--ulimit", help="Limit: name=soft[:hard]."),
    _one("-u", "--user", help="User: name or UID, with :group or :GID."),
    _one("--userns", help="User namespace: host, or auto[:size=N] for ids of its own."),
    _one("--uts", help="UTS namespace: host."),
    _many("-v", "--volume", help="Volume or directory: [source:]target[:options]."),
    _one("--volume-driver", help="Driver of its volumes."),
    _many("--volumes-from", help="Mount the volumes of another container."),
    _one("-w", "--workdir", help="Working directory."),
    *HEALTH_OPTIONS,
)


class BooleanValues(click.Command):
    """A command whose flags also take a value, as Docker's do: ``--init=true``, ``--rm=false``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Turn the values of flags into their presence or absence, up to the first argument that is no option."""
        options = {name: option for option in self.params for name in (*option.opts, *option.secondary_opts)}
        rewritten: list[str] = []
        rest = list(args)
        while rest and rest[0].startswith("-") and rest[0] not in ("-", "--"):
            word = rest.pop(0)
            name, equals, value = word.partition("=")
            option = options.get(name)
            if isinstance(option, click.Option) and option.is_flag and equals:
                try:
                    wanted = _truth(value, name)
                except InvalidArgument as error:
                    click.echo(with_usage(error.message, ctx.info_name or ""), err=True)
                    ctx.exit(WRONG_USAGE)
                if wanted:
                    rewritten.append(name)
                elif option.secondary_opts:  # a flag that is on unless it is switched off
                    rewritten.append(option.secondary_opts[0])
                continue
            rewritten.append(word)
            if not word.startswith("--"):  # -it, -vNAME: the first letter that takes a value takes the rest
                letters = word[1:]
                taking = next((i for i, letter in enumerate(letters) if _takes_value(options.get(f"-{letter}"))), -1)
                takes_next = taking == len(letters) - 1 >= 0
            else:
                takes_next = not equals and _takes_value(option)
            if takes_next and rest:
                rewritten.append(rest.pop(0))
        return super().parse_args(ctx, rewritten + rest)


def with_usage(message: str, command: str) -> str:
    """An error of an option with the usage of ``command``, as Docker tells it."""
    usage = f"Usage:  tare {command} [OPTIONS] IMAGE [COMMAND] [ARG...]"
    return f"{message}\n\n{usage}\n\nRun 'tare {command} --help' for more information"


def _takes_value(option: click.Parameter | None) -> bool:
    return isinstance(option, click.Option) and not option.is_flag


def _truth(value: str, name: str) -> bool:
    if value in ("1", "t", "T", "true", "TRUE", "True"):
        return True
    if value in ("0", "f", "F", "false", "FALSE", "False"):
        return False
    raise flag_error(value, name, f'strconv.ParseBool: parsing "{value}": invalid syntax')


def container_options(command: F) -> F:
    """Give ``command`` the options of ``create``; they arrive as keyword arguments."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def create_request(
    image: str, words: tuple[str, ...], given: dict[str, Any], *, detach: bool = False
) -> dict[str, Any]:
    """The API's ContainerCreateRequest. Raises InvalidArgument for an option that cannot be read."""
    tty, interactive = given["tty"], given["interactive"]
    attached = read_streams(given["attach"])
    if not attached and not detach:
        attached = {"stdout", "stderr"} | ({"stdin"} if interactive else set())
    binds, anonymous = read_volumes(given["volume"])
    ports = read_ports(given["publish"])
    host = _host_config(given)
    document = {
        "Image": image,
        "Cmd": list(words) or None,
        "Hostname": given["hostname"],
        "Domainname": given["domainname"],
        "User": given["user"],
        "AttachStdin": "stdin" in attached,
        "AttachStdout": "stdout" in attached,
        "AttachStderr": "stderr" in attached,
        "Tty": tty,
        "OpenStdin": interactive,
        "StdinOnce": interactive and "stdin" in attached,
        "Env": read_env(given["env"], given["env_file"]),
        "Volumes": anonymous or None,
        "WorkingDir": given["workdir"],
        "Labels": {**read_labels((), given["label_file"]), **read_pairs(given["label"], "-l, --label")},
        "ExposedPorts": {**read_exposed(given["expose"]), **{port: {} for port in ports}},
        "MacAddress": read_mac(given["mac_address"]),
        "Healthcheck": read_health(given),
        "StopSignal": given["stop_signal"],
        "StopTimeout": read_integer(given["stop_timeout"], "--stop-timeout") if given["stop_timeout"] else None,
    }
    if given["entrypoint"] is not None:
        document["Entrypoint"] = [given["entrypoint"]]
    mode, endpoints = networking(given)
    document["HostConfig"] = {**host, "Binds": binds or None, "PortBindings": ports}
    document["HostConfig"]["NetworkMode"] = mode
    document["NetworkingConfig"] = {"EndpointsConfig": endpoints}
    return document


def check_before_pull(given: dict[str, Any]) -> None:
    """What Docker refuses before it looks at anything else. Raises InvalidArgument."""
    if given["pull"] not in ("always", "missing", "never"):
        raise InvalidArgument(
            f'invalid pull option: \'{given["pull"]}\': must be one of "always", "missing" or "never"'
        )


def _host_config(given: dict[str, Any]) -> dict[str, Any]:
    security, members = read_security(given["security_opt"])
    restart = read_restart(given["restart"])
    if given["auto_remove"] and restart["Name"] != "no":
        raise InvalidArgument("conflicting options: cannot specify both --restart and --rm")
    return {
        **_resources(given),
        **members,
        "Annotations": read_pairs(given["annotation"], "--annotation") or None,
        "AutoRemove": given["auto_remove"],
        "CapAdd": list(given["cap_add"]) or None,
        "CapDrop": list(given["cap_drop"]) or None,
        "CgroupParent": given["cgroup_parent"],
        "CgroupnsMode": read_mode(given["cgroupns"], "--cgroupns", "CGROUP", ("host", "private")),
        "ContainerIDFile": given["cidfile"],
        "DeviceRequests": read_gpus(given["gpus"]),
        "Dns": read_dns(given["dns"]),
        "DnsOptions": list(given["dns_option"]),
        "DnsSearch": read_dns_search(given["dns_search"]),
        "ExtraHosts": read_extra_hosts(given["add_host"]) or None,
        "GroupAdd": list(given["group_add"]) or None,
        "Init": given["init"] or None,
        "IpcMode": given["ipc"],
        "Isolation": given["isolation"],
        "Links": read_links(given["link"]) or None,
        "LogConfig": read_log(given["log_driver"], given["log_opt"]),
        "Mounts": [read_mount(text) for text in given["mount"]] or None,
        "PidMode": read_mode(given["pid"], "--pid", "PID", ("host",), container=True),
        "Privileged": given["privileged"],
        "PublishAllPorts": given["publish_all"],
        "ReadonlyRootfs": given["read_only"],
        "RestartPolicy": restart,
        "Runtime": given["runtime"],
        "SecurityOpt": security if given["security_opt"] else None,
        "StorageOpt": _storage(given["storage_opt"]) or None,
        "Sysctls": read_sysctls(given["sysctl"]) or None,
        "Tmpfs": read_tmpfs(given["tmpfs"]) or None,
        "UTSMode": read_mode(given["uts"], "--uts", "UTS", ("host",)),
        "UsernsMode": _userns(given["userns"]),
        "VolumeDriver": given["volume_driver"],
        "VolumesFrom": list(given["volumes_from"]) or None,
    }


def _resources(given: dict[str, Any]) -> dict[str, Any]:
    def number(name: str, flag: str = "") -> int:
        return read_integer(given[name], flag or "--" + name.replace("_", "-"))

    return {
        "BlkioWeight": read_integer(given["blkio_weight"], "--blkio-weight", kind="ParseUint"),
        "BlkioWeightDevice": [read_weight_device(text) for text in given["blkio_weight_device"]],
        **{member: [read_rate_device(text, flag) for text in given[name]] for name, flag, member in _RATES},
        "CpuPeriod": number("cpu_period"),
        "CpuQuota": number("cpu_quota"),
        "CpuRealtimePeriod": number("cpu_rt_period"),
        "CpuRealtimeRuntime": number("cpu_rt_runtime"),
        "CpuShares": number("cpu_shares", "-c, --cpu-shares"),
        "CpusetCpus": given["cpuset_cpus"],
        "CpusetMems": given["cpuset_mems"],
        "DeviceCgroupRules": [read_device_rule(text) for text in given["device_cgroup_rule"]] or None,
        "Devices": [read_device(text) for text in given["device"]],
        "KernelMemory": read_bytes(given["kernel_memory"], "--kernel-memory"),
        "Memory": read_bytes(given["memory"], "-m, --memory"),
        "MemoryReservation": read_bytes(given["memory_reservation"], "--memory-reservation"),
        "MemorySwap": read_swap(given["memory_swap"]),
        "MemorySwappiness": read_swappiness(given["memory_swappiness"]),
        "NanoCpus": read_cpus(given["cpus"]),
        "OomKillDisable": given["oom_kill_disable"],
        "OomScoreAdj": number("oom_score_adj"),
        "PidsLimit": number("pids_limit") or None,
        "ShmSize": read_bytes(given["shm_size"], "--shm-size"),
        "Ulimits": [read_ulimit(text) for text in given["ulimit"]],
    }


def _userns(text: str) -> str:
    return text if text.partition(":")[0] == "auto" else read_mode(text, "--userns", "USER", ("host",))


def _storage(texts: tuple[str, ...]) -> dict[str, str]:
    for text in texts:
        if "=" not in text:
            raise InvalidArgument("invalid storage option")
    return read_pairs(texts, "--storage-opt")
