"""Tells when a container runs out of memory: at the moment the kernel says so, whether or not the container ends."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tare.engine.paths import EnginePaths
from tare.kernel.cgroups import CgroupLayout
from tare.kernel.inotify import FileWatcher
from tare.kernel.oom import OomNotices, open_notices
from tare.model.container import Container

logger = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Watched:
    opening: asyncio.Task[OomNotices | None]
    following: asyncio.Task[None] | None = None


class OomWatch:
    """The containers that are watched. Set ``on_oom``, which is called with a container's id for each notice."""

    def __init__(self, cgroups: CgroupLayout, paths: EnginePaths) -> None:
        self.on_oom: Callable[[str], Awaitable[None]] | None = None
        self._cgroups = cgroups
        self._paths = paths
        self._watcher = FileWatcher()
        self._watched: dict[str, _Watched] = {}

    def begin(self, container: Container) -> None:
        """The container runs (or is found running)."""
        if container.id in self._watched:
            return
        watched = _Watched(asyncio.create_task(self._open(container), name=f"memory {container.id[:12]}"))
        self._watched[container.id] = watched
        watched.following = asyncio.create_task(self._follow(container.id, watched))

    async def end(self, container_id: str) -> None:
        """The container's process has ended, its cgroup is still there: what is not told yet is told before return."""
        watched = self._watched.pop(container_id, None)
        if watched is None:
            return
        notices = await watched.opening
        if watched.following is not None:
            watched.following.cancel()
            await asyncio.wait([watched.following])
        if notices is None:
            return
        try:
            if await asyncio.to_thread(notices.take):
                await self._tell(container_id)
        finally:
            notices.close()

    async def close(self) -> None:
        """Watch no more."""
        for watched in list(self._watched.values()):
            notices = await watched.opening
            if watched.following is not None:
                watched.following.cancel()
                await asyncio.wait([watched.following])
            if notices is not None:
                notices.close()
        self._watched.clear()
        self._watcher.close()

    async def _open(self, container: Container) -> OomNotices | None:
        path = f"{container.host_config.cgroup_parent or self._paths.cgroup_parent}/{container.id}"
        known = container.state.oom_killed
        try:
            return await asyncio.to_thread(open_notices, self._cgroups, path, self._watcher, known=known)
        except OSError as error:  # mostly: it has ended and its cgroup is gone
            logger.info("container %s is not watched for want of memory: %s", container.id[:12], error)
            return None

    async def _follow(self, container_id: str, watched: _Watched) -> None:
        notices = await asyncio.shield(watched.opening)
        if notices is None:
            return
        try:
            while True:
                await notices.wait()
                # A cancellation in between must not lose a notice that is taken: both steps are one.
                step = asyncio.ensure_future(self._take(container_id, notices))
                try:
                    gone = not await asyncio.shield(step)
                except asyncio.CancelledError:
                    await asyncio.wait([step])
                    raise
                if gone:
                    return
        except OSError as error:
            logger.info("container %s is not watched for want of memory any more: %s", container_id[:12], error)

    async def _take(self, container_id: str, notices: OomNotices) -> bool:
        if not await asyncio.to_thread(notices.take):
            return await asyncio.to_thread(notices.exists)
        await self._tell(container_id)
        return True

    async def _tell(self, container_id: str) -> None:
        assert self.on_oom is not None
        try:
            await self.on_oom(container_id)
        except Exception:
            logger.exception("container %s ran out of memory, which could not be told", container_id[:12])
