"""The network namespaces of containers and build steps: files under ``<run root>/netns``."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from tare.errors import NotFound
from tare.kernel.namespaces import (
    create_network_namespace,
    create_user_and_network_namespace,
    is_network_namespace,
    remove_network_namespace,
)

_BUILD_PREFIX = "build-"


@dataclass(frozen=True, slots=True)
class NamespaceOwner:
    """A user namespace kept at ``path``: its id 0 is the host's ``first``, it has ``size`` ids."""

    path: Path
    first: int
    size: int


class Sandboxes:
    """Makes, finds and removes namespaces; a container's is named by its id, a build step's ``build-<id>``."""

    def __init__(self, run_root: Path) -> None:
        self._directory = run_root / "netns"

    def path(self, container_id: str) -> Path:
        """Where the container's namespace is, or would be."""
        return self._directory / container_id

    def build_path(self, identifier: str) -> Path:
        """Where a build step's namespace is, or would be."""
        return self._directory / f"{_BUILD_PREFIX}{identifier}"

    async def create(self, path: Path, owner: NamespaceOwner | None = None) -> Path:
        """Make the namespace, loopback up. A leftover of a crash or of an earlier run at this path is replaced.

        With ``owner`` it belongs to a user namespace that is made with it.
        """

        def work() -> None:
            remove_network_namespace(path)
            if owner is None:
                create_network_namespace(path)
                return
            remove_network_namespace(owner.path)
            create_user_and_network_namespace(owner.path, path, owner.first, owner.size)

        await asyncio.to_thread(work)
        return path

    async def remove(self, path: Path) -> None:
        """Let go of the namespace; absence is no error."""
        await asyncio.to_thread(remove_network_namespace, path)

    async def exists(self, container_id: str) -> bool:
        """Whether the container has a namespace of ours."""
        return await asyncio.to_thread(is_network_namespace, self.path(container_id))

    async def require(self, container_id: str) -> Path:
        """The container's namespace. Raises NotFound."""
        if not await self.exists(container_id):
            raise NotFound(f"container {container_id[:12]} has no network namespace", hint="start it first")
        return self.path(container_id)

    async def leftovers(self, *, everything: bool = False) -> list[Path]:
        """Namespaces of build steps that a crash left; with ``everything`` those of containers as well."""

        def work() -> list[Path]:
            pattern = "*" if everything else f"{_BUILD_PREFIX}*"
            return sorted(self._directory.glob(pattern)) if self._directory.exists() else []

        return await asyncio.to_thread(work)
