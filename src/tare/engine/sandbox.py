"""A container's surroundings on the host: network namespace, name files, mounted root, mounts of its own."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Sequence
from pathlib import Path

import msgspec

from tare.engine.creation import WantedPort, wanted_ports
from tare.engine.isolation import Isolation
from tare.engine.links import Links, read_link
from tare.engine.mounts import ContainerMounts
from tare.engine.paths import EnginePaths
from tare.engine.visitors import Visitors
from tare.errors import Conflict, InvalidArgument, TareError
from tare.model.container import Container, EndpointSettings
from tare.network.model import Network, PortRequest
from tare.network.names import changed_hosts, own_names
from tare.network.service import NetworkService
from tare.store.store import Store

INTERFACE_OPTION = "com.docker.network.endpoint.ifname"
_WRITTEN = ".resolv.conf"  # what the engine wrote last: tells whether somebody has edited resolv.conf since


class Sandboxes:
    """Makes and takes down what a container's process needs around it."""

    def __init__(
        self,
        *,
        store: Store,
        network: NetworkService,
        paths: EnginePaths,
        isolation: Isolation,
        mounts: ContainerMounts,
        links: Links,
        visitors: Visitors,
    ) -> None:
        self._isolation = isolation
        self._links = links
        self.visitors = visitors
        self._store = store
        self._network = network
        self._paths = paths
        self.mounts = mounts

    async def mount_root(self, container: Container, *, running: bool = False) -> Path:
        """Mount the container's root file system and return where.

        A container with ids of its own is seen in these. One that is about to run (``running``) gets what it shares,
        and who looks at its files has to leave.
        """
        if running:
            await self.visitors.dismiss(container.id, "is being started")
        target = self._paths.rootfs(container.id)
        await asyncio.to_thread(target.mkdir, parents=True, exist_ok=True)
        ids = container.ids
        await self._isolation.release(container.id)
        await self._store.snapshots.mount(container.id, target, None if ids is None else (ids.first, ids.size))
        if running:
            await self._isolation.prepare(container)
        return target

    async def unmount_root(self, container_id: str) -> None:
        """Undo :meth:`mount_root` of a container that has run and what was mounted beside it; visitors leave first."""
        await self.visitors.dismiss(container_id, "has ended")
        await self.release_root(container_id)

    async def release_root(self, container_id: str) -> None:
        """Undo :meth:`mount_root` and what was mounted for the container beside it."""
        await self.mounts.release(container_id)
        target = self._paths.rootfs(container_id)
        await self._isolation.release(container_id)
        await self._store.snapshots.unmount(target)
        await asyncio.to_thread(_remove_empty, target)

    async def open_namespace(self, container: Container) -> Path | None:
        """Make (or find) the network namespace, still without interfaces; None stands for the host's."""
        mode = container.host_config.network_mode
        if mode == "host":
            return None
        if mode.startswith("container:"):
            return await self._joined(mode.removeprefix("container:"))
        return await self._network.create_sandbox(container.id, self._isolation.owner(container))

    async def connect(self, container: Container) -> None:
        """Connect the container's namespace to its networks and publish its ports."""
        if container.config.network_disabled:
            return
        try:
            networks = {name: await self._network.get_network(name) for name in container.networking}
            publishing = _publishing(container, networks)
            for name, settings in container.networking.items():
                ports = port_requests(container) if name == publishing else []
                await self.join(container, name, settings, ports=ports)
        except TareError as error:
            message = f"failed to set up container networking: {error.message}"
            raise type(error)(message, hint=error.hint, code=error.code) from error

    async def join(
        self, container: Container, network: str, settings: EndpointSettings, *, ports: list[PortRequest]
    ) -> None:
        """Connect a container that has a network namespace to one more network, as its next interface."""
        asked = settings.ipam_config
        first = next(iter(container.networking), network)  # the one that --mac-address is for
        await self._network.attach(
            container.id,
            container.name,
            network,
            aliases=tuple(settings.aliases or ()),
            address=(asked.ipv4_address if asked else "") or None,
            address6=(asked.ipv6_address if asked else "") or None,
            mac=settings.mac_address or (container.config.mac_address if network == first else None) or None,
            interface=(settings.driver_opts or {}).get(INTERFACE_OPTION),
            gateway_priority=settings.gw_priority,
            link_local=(asked.link_local_ips if asked else None) or (),
            ports=ports,
            hostname=container.config.hostname,
            nameservers=container.host_config.dns or (),
            links=[(alias, target) for target, alias in map(read_link, settings.links or ())],
            ipv6=not _switches_ipv6_off(container),
        )

    async def leave_unknown(self, container: Container) -> None:
        """Leave networks that the container's document does not name.

        An engine that ends in the middle of connecting or disconnecting leaves it on them.
        """
        for endpoint in await self._network.endpoints_of_container(container.id):
            if endpoint.network_name not in container.networking:
                await self._network.detach(container.id, endpoint.network_id)
                await self.refresh_files(container, gone=endpoint.addresses)
                await self._network.republish(container.id, port_requests(container))

    async def disconnect(self, container_id: str) -> None:
        """Release every endpoint and the network namespace; quiet when there is none."""
        await self._network.detach_all(container_id)
        await self._network.remove_sandbox(container_id)

    async def _joined(self, reference: str) -> Path:
        path = self._network.sandbox_path(reference)
        if not await asyncio.to_thread(path.exists):
            raise Conflict(
                f"cannot join network namespace of a non running container: {reference[:12]}",
                hint="start that container first",
            )
        return path

    async def name_files(self, container: Container) -> dict[str, Path]:
        """The resolv.conf, hosts and hostname that a running container has, by their places in it."""
        owner = container.host_config.network_mode.partition("container:")[2] or container.id
        places = _places(self._paths.container(owner))
        return await asyncio.to_thread(lambda: {name: place for name, place in places.items() if place.exists()})

    async def make_files(self, container: Container) -> dict[str, Path]:
        """Make resolv.conf, hosts and hostname; returns their places by destination in the container.

        They are mounted into the container before its addresses are known: :meth:`fill_files` writes them in place.
        """
        directory = self._paths.container(container.id)
        mode = container.host_config.network_mode
        if mode.startswith("container:"):
            return _places(self._paths.container(mode.removeprefix("container:")))
        places = _places(directory)
        await asyncio.to_thread(_touch, list(places.values()))
        return places

    async def fill_files(self, container: Container) -> None:
        """Write what resolv.conf, hosts and hostname say for the networks that the container is on now."""
        host = container.host_config
        if host.network_mode.startswith("container:"):
            return
        directory = self._paths.container(container.id)
        if host.network_mode == "host":
            resolv_conf, hosts = await asyncio.to_thread(_host_files)
            hosts += "".join(f"{address}\t{name}\n" for name, address in await self._extra_hosts(container))
        else:
            resolv_conf = await self._resolv_conf(container)
            hosts = await self._network.hosts_file(
                container.id,
                hostname=container.config.hostname,
                domainname=container.config.domainname,
                extra_hosts=[*await self._extra_hosts(container), *await self._links.hosts(container)],
            )
        texts = {"resolv.conf": resolv_conf, "hosts": hosts, "hostname": f"{container.config.hostname}\n"}
        await asyncio.to_thread(_fill, directory, texts)
        await asyncio.to_thread((directory / _WRITTEN).write_text, resolv_conf)
        await self._links.follow(container)

    async def refresh_files(self, container: Container, *, gone: Sequence[str] = (), come: Sequence[str] = ()) -> None:
        """Let the files of a running container follow addresses that went and came; edits made inside are kept.

        A resolv.conf that was edited is left as it is, as in Docker. One that is not follows in both directions:
        after its last network with names a container asks the host's resolvers again.
        """
        directory = self._paths.container(container.id)
        own = own_names(container.config.hostname, container.config.domainname)
        resolv_conf = await self._resolv_conf(container)

        def write() -> None:
            hosts, current, written = directory / "hosts", directory / "resolv.conf", directory / _WRITTEN
            _rewrite(hosts, changed_hosts(hosts.read_text(errors="surrogateescape"), gone=gone, come=come, own=own))
            if written.exists() and current.read_bytes() == written.read_bytes():
                _rewrite(current, resolv_conf)
                written.write_text(resolv_conf)

        await asyncio.to_thread(write)

    async def _resolv_conf(self, container: Container) -> str:
        host = container.host_config
        return await self._network.resolv_conf(
            container.id, dns=host.dns or (), search=host.dns_search or (), options=host.dns_options or ()
        )

    async def _extra_hosts(self, container: Container) -> list[tuple[str, str]]:
        pairs = []
        for item in container.host_config.extra_hosts or []:
            name, separator, address = item.partition("=" if "=" in item else ":")
            if not separator or not name or not address:
                raise InvalidArgument(f'invalid extra host: "{item}"', hint="write NAME:ADDRESS")
            if address == "host-gateway":
                address = await self._gateway(container)
            pairs.append((name, address))
        return pairs

    async def _gateway(self, container: Container) -> str:
        """The host's address on a network of the container's own: the firewall drops what goes to other networks'.

        Docker gives the one on the network ``bridge`` in every case; so does this where the container has no gateway.
        """
        for endpoint in await self._network.endpoints_of_container(container.id):
            if endpoint.gateway:
                return endpoint.gateway
        return (await self._network.get_network("bridge")).gateway


def port_requests(container: Container) -> list[PortRequest]:
    """The ports that the container publishes; what clients take apart, one by one, is a range again."""
    requests: list[PortRequest] = []
    for port in sorted(wanted_ports(container.config, container.host_config), key=_order):
        first, _, last = port.host_port.partition("-")
        request = PortRequest(
            protocol=port.protocol,
            container_port=port.container_port,
            host_address=port.host_ip,
            host_port=int(first or 0),
            last_host_port=int(last or 0),
            sources=port.sources,
        )
        if requests and (longer := _joined_range(requests[-1], request)):
            requests[-1] = longer
        else:
            requests.append(request)
    return requests


def _order(port: WantedPort) -> tuple[str, str, tuple[str, ...], int, int]:
    first = int(port.host_port.partition("-")[0] or 0)
    return port.protocol, port.host_ip, port.sources, first - port.container_port, port.container_port


def _joined_range(request: PortRequest, following: PortRequest) -> PortRequest | None:
    """One request for both, where the second goes on where the first ends on both sides."""
    moved = msgspec.structs.replace(
        following,
        host_port=following.host_port - request.count,
        container_port=following.container_port - request.count,
        count=request.count,
    )
    if not request.host_port or request.last_host_port or moved != request:
        return None
    return msgspec.structs.replace(request, count=request.count + 1)


def _switches_ipv6_off(container: Container) -> bool:
    """Whether the container's sysctls leave no IPv6 in its namespace, so that no address can be given."""
    sysctls = container.host_config.sysctls or {}
    return any(sysctls.get(f"net.ipv6.conf.{name}.disable_ipv6", "0").strip() == "1" for name in ("all", "lo"))


def _publishing(container: Container, networks: dict[str, Network]) -> str:
    """The network whose endpoint publishes the ports, if it can: the one that gets the default route."""
    ranks = {
        (-container.networking[name].gw_priority, network.pool6 is None, network.pool4 is None, name)
        for name, network in networks.items()
        if network.driver.has_interfaces and not network.internal
    }
    return min(ranks)[-1] if ranks else ""


def _places(directory: Path) -> dict[str, Path]:
    return {f"/etc/{name}": directory / name for name in ("resolv.conf", "hostname", "hosts")}


def _touch(paths: list[Path]) -> None:
    for path in paths:
        path.touch(mode=0o644)


def _fill(directory: Path, texts: dict[str, str]) -> None:
    """Write in place: a renamed file would not be the one that is mounted."""
    for name, text in texts.items():
        (directory / name).write_text(text)


def _rewrite(path: Path, text: str) -> None:
    """Write a mounted file in place, and only when it changes."""
    data = text.encode(errors="surrogateescape")
    if path.read_bytes() != data:
        path.write_bytes(data)


def _host_files() -> tuple[str, str]:
    return tuple(  # type: ignore[return-value]
        Path(name).read_text() if Path(name).exists() else "" for name in ("/etc/resolv.conf", "/etc/hosts")
    )


def _remove_empty(directory: Path) -> None:
    if directory.exists():
        directory.rmdir()


def remove_tree(directory: Path) -> None:
    """Delete a directory of ours; quiet when it is not there."""
    if directory.exists():
        shutil.rmtree(directory)
