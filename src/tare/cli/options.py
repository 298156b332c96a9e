"""The options of ``run`` and ``create``, and the request that they make."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from tare.cli.environment import read_env, read_labels
from tare.cli.health import HEALTH_OPTIONS, read_health
from tare.cli.limits import read_ulimit
from tare.cli.mounts import read_exposed, read_mount, read_ports, read_tmpfs, read_volumes
from tare.cli.units import parse_size
from tare.errors import InvalidArgument

F = TypeVar("F", bound=Callable[..., Any])


def _many(*names: str, help: str, **more: Any) -> Callable[[F], F]:  # noqa: A002
    return click.option(*names, multiple=True, help=help, **more)


_OPTIONS: tuple[Callable[[Any], Any], ...] = (
    _many("--add-host", help="Add a line to /etc/hosts: name:address."),
    _many(
        "-a",
        "--attach",
        type=click.Choice(["stdin", "stdout", "stderr"], case_sensitive=False),
        help="Attach to a stream.",
    ),
    _many("--cap-add", help="Add a capability."),
    _many("--cap-drop", help="Drop a capability."),
    click.option("--cgroup-parent", default="", help="Parent control group."),
    click.option("--cidfile", default="", help="Write the container's ID to this file."),
    click.option("--cpus", default="", help="Number of CPUs, such as 1.5."),
    click.option("-c", "--cpu-shares", type=int, default=0, help="Weight of its CPU time."),
    click.option("--cpuset-cpus", default="", help="CPUs that it may use: 0-3, 0,1."),
    _many("--device", help="Add a device of the host: /dev/x[:/dev/y[:rwm]]."),
    _many("--dns", help="DNS server."),
    _many("--dns-search", help="DNS search domain."),
    click.option("--entrypoint", default=None, help="Program to run instead of the image's entry point."),
    _many("-e", "--env", help="Environment variable: NAME=VALUE, or NAME to pass one on."),
    _many("--env-file", help="Read environment variables from this file."),
    _many("--expose", help="Expose a port or a range of ports."),
    click.option("-h", "--hostname", default="", help="Host name of the container."),
    click.option("--init", is_flag=True, help="Run an init that forwards signals and reaps processes."),
    click.option("-i", "--interactive", is_flag=True, help="Keep standard input open."),
    click.option("--ip", default="", help="IPv4 address."),
    _many("-l", "--label", help="Label: KEY=VALUE."),
    _many("--label-file", help="Read labels from this file."),
    click.option("-m", "--memory", default="", help="Memory limit, such as 512m."),
    click.option("--memory-swap", default="", help="Limit of memory and swap together, -1 for unlimited swap."),
    _many("--mount", help="Mount: type=bind|volume|tmpfs,source=…,target=…[,readonly]."),
    click.option("--name", default="", help="Name of the container."),
    _many("--network", "--net", help="Network to connect to."),
    _many("--network-alias", "--net-alias", help="One more name of the container on its network."),
    click.option("--oom-kill-disable", is_flag=True, help="Don't kill it when memory runs out."),
    click.option("--pid", default="", help="PID namespace: host or container:NAME."),
    click.option("--pids-limit", type=int, default=0, help="Limit of processes, -1 for unlimited."),
    click.option("--platform", default="", help="Platform, such as linux/amd64."),
    click.option("--privileged", is_flag=True, help="Give it all rights of the host."),
    _many("-p", "--publish", help="Publish a port: [[ip:]hostPort:]containerPort[/protocol]."),
    click.option("-P", "--publish-all", is_flag=True, help="Publish all exposed ports on free ports."),
    click.option("--pull", type=click.Choice(["always", "missing", "never"]), default="missing", help="When to pull."),
    click.option("-q", "--quiet", is_flag=True, help="Don't show the progress of a pull."),
    click.option("--read-only", is_flag=True, help="Mount its root file system read-only."),
    click.option("--restart", default="no", help="no, on-failure[:N], always, unless-stopped, on-unhealthy[:N]."),
    click.option("--rm", "auto_remove", is_flag=True, help="Remove the container when it ends."),
    click.option("--runtime", default="", help="OCI runtime."),
    _many("--security-opt", help="Security option."),
    click.option("--shm-size", default="", help="Size of /dev/shm, such as 64m."),
    click.option("--stop-signal", default="", help="Signal that stops it."),
    click.option("--stop-timeout", type=int, default=None, help="Seconds until it is killed."),
    _many("--sysctl", help="Kernel parameter: NAME=VALUE."),
    _many("--tmpfs", help="Mount a tmpfs: /path[:options]."),
    click.option("-t", "--tty", is_flag=True, help="Give it a terminal."),
    _many("--ulimit", help="Limit: name=soft[:hard]."),
    click.option("-u", "--user", default="", help="User: name or UID, with :group or :GID."),
    click.option("--ipc", default="", help="IPC namespace: private, host, shareable, container:NAME."),
    click.option("--uts", default="", help="UTS namespace: host."),
    _many("-v", "--volume", help="Volume or directory: [source:]target[:options]."),
    _many("--volumes-from", help="Mount the volumes of another container."),
    _many("--group-add", help="One more group."),
    click.option("-w", "--workdir", default="", help="Working directory."),
    *HEALTH_OPTIONS,
)


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
    attached = {name.lower() for name in given["attach"]}
    if not attached and not detach:
        attached = {"stdout", "stderr"} | ({"stdin"} if interactive else set())
    binds, anonymous = read_volumes(given["volume"])
    ports = read_ports(given["publish"])
    document = {
        "Image": image,
        "Cmd": list(words) or None,
        "Hostname": given["hostname"],
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
        "Labels": read_labels(given["label"], given["label_file"]),
        "ExposedPorts": {**read_exposed(given["expose"]), **{port: {} for port in ports}},
        "StopSignal": given["stop_signal"],
        "StopTimeout": given["stop_timeout"],
        "Healthcheck": read_health(given),
    }
    if given["entrypoint"] is not None:
        document["Entrypoint"] = [given["entrypoint"]]
    networks = list(given["network"])
    document["HostConfig"] = {**_host_config(given), "Binds": binds or None, "PortBindings": ports}
    document["HostConfig"]["NetworkMode"] = networks[0] if networks else "default"
    document["NetworkingConfig"] = {"EndpointsConfig": _endpoints(networks, given)}
    return document


def _host_config(given: dict[str, Any]) -> dict[str, Any]:
    return {
        "AutoRemove": given["auto_remove"],
        "CapAdd": list(given["cap_add"]) or None,
        "CapDrop": list(given["cap_drop"]) or None,
        "CgroupParent": given["cgroup_parent"],
        "CpuShares": given["cpu_shares"],
        "CpusetCpus": given["cpuset_cpus"],
        "Devices": [_device(text) for text in given["device"]],
        "Dns": list(given["dns"]),
        "DnsSearch": list(given["dns_search"]),
        "ExtraHosts": list(given["add_host"]) or None,
        "GroupAdd": list(given["group_add"]) or None,
        "Init": given["init"] or None,
        "IpcMode": given["ipc"],
        "Memory": parse_size(given["memory"], '"-m, --memory"') if given["memory"] else 0,
        "MemorySwap": _swap(given["memory_swap"]),
        "Mounts": [read_mount(text) for text in given["mount"]] or None,
        "NanoCpus": _nano_cpus(given["cpus"]),
        "OomKillDisable": given["oom_kill_disable"] or None,
        "PidMode": given["pid"],
        "PidsLimit": given["pids_limit"] or None,
        "Privileged": given["privileged"],
        "PublishAllPorts": given["publish_all"],
        "ReadonlyRootfs": given["read_only"],
        "RestartPolicy": read_restart(given["restart"]),
        "Runtime": given["runtime"],
        "SecurityOpt": list(given["security_opt"]) or None,
        "ShmSize": parse_size(given["shm_size"], '"--shm-size"') if given["shm_size"] else 0,
        "Sysctls": read_labels(given["sysctl"]) or None,
        "Tmpfs": read_tmpfs(given["tmpfs"]) or None,
        "UTSMode": given["uts"],
        "Ulimits": [read_ulimit(text) for text in given["ulimit"]] or None,
        "VolumesFrom": list(given["volumes_from"]) or None,
    }


def _endpoints(networks: list[str], given: dict[str, Any]) -> dict[str, Any]:
    aliases, address = list(given["network_alias"]), given["ip"]
    if not networks:
        if aliases or address:
            raise InvalidArgument("--ip and --network-alias need a user-defined network", hint="add --network NAME")
        return {}
    endpoints: dict[str, Any] = dict.fromkeys(networks)
    if aliases or address:
        settings = {"Aliases": aliases or None, "IPAMConfig": {"IPv4Address": address} if address else None}
        endpoints[networks[0]] = settings
    return endpoints


def read_restart(text: str) -> dict[str, Any]:
    """``--restart`` as the API's RestartPolicy; the engine knows the names. Raises InvalidArgument."""
    name, colon, count = text.partition(":")
    if colon and not name:
        raise InvalidArgument("invalid restart policy format: no policy provided before colon")
    digits = count[1:] if count[:1] in ("+", "-") else count
    if count and not (digits.isascii() and digits.isdecimal()):
        raise InvalidArgument("invalid restart policy format: maximum retry count must be an integer")
    return {"Name": name or "no", "MaximumRetryCount": int(count or 0)}


def _nano_cpus(text: str) -> int:
    if not text:
        return 0
    try:
        value = float(text)
    except ValueError as error:
        raise InvalidArgument(f'invalid argument "{text}" for "--cpus": failed to parse {text} as a number') from error
    return int(value * 1_000_000_000)


def _swap(text: str) -> int:
    if text == "-1":
        return -1
    return parse_size(text, '"--memory-swap"') if text else 0


def _device(text: str) -> dict[str, str]:
    parts = text.split(":")
    if len(parts) > 3 or not parts[0].startswith("/"):
        raise InvalidArgument(f"bad format for device {text!r}", hint="use /dev/x[:/dev/y[:rwm]]")
    target = parts[1] if len(parts) > 1 and parts[1].startswith("/") else parts[0]
    rights = parts[-1] if len(parts) > 1 and not parts[-1].startswith("/") else "rwm"
    return {"PathOnHost": parts[0], "PathInContainer": target, "CgroupPermissions": rights}
