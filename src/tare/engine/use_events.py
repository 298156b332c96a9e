"""The events of what a container uses while it runs: its networks and volumes."""

from __future__ import annotations

from tare.engine.events import Events
from tare.errors import NotFound
from tare.model.container import Container, MountPoint
from tare.network.model import Network
from tare.network.service import NetworkService


class UseEvents:
    """Publishes, as Docker does, that a container's networks and volumes come into use and go out of it.

    They are told from the container's document, so that the end is known to an engine that has not seen the beginning.
    """

    def __init__(self, events: Events, network: NetworkService) -> None:
        self._events = events
        self._network = network

    async def begun(self, container: Container) -> None:
        """The container has started; before its own event."""
        for mount in _volumes(container):
            details = {
                "destination": mount.destination,
                "propagation": mount.propagation,
                "read/write": "true" if mount.rw else "false",
            }
            self._publish_volume(container, mount, "mount", details)
        await self._publish_networks(container, "connect")

    async def ended(self, container: Container) -> None:
        """The container has ended; before its own event."""
        await self._publish_networks(container, "disconnect")
        for mount in _volumes(container):
            self._publish_volume(container, mount, "unmount", {})

    async def _publish_networks(self, container: Container, action: str) -> None:
        for name in container.networking:
            try:
                network = await self._network.get_network(name)
            except NotFound:  # one that was removed while the container did not run
                continue
            publish_use(self._events, action, network, container.id)

    def _publish_volume(self, container: Container, mount: MountPoint, action: str, details: dict[str, str]) -> None:
        attributes = {"container": container.id, "driver": mount.driver, **details}
        self._events.publish("volume", action, mount.name, attributes)


def publish_use(events: Events, action: str, network: Network, container_id: str) -> None:
    """Publish that a container was connected to a network (``connect``) or disconnected from it (``disconnect``)."""
    attributes = {"container": container_id, "name": network.name, "type": network.driver.stored_as}
    events.publish("network", action, network.id, attributes)


def _volumes(container: Container) -> list[MountPoint]:
    return [mount for mount in container.mounts if mount.type == "volume"]
