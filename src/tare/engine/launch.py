"""From a stored container to a running process: mounts, network, bundle, supervisor, start."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from tare.base.shielding import finish
from tare.engine.bundle import BundleWriter, write_spec
from tare.engine.failures import Failures
from tare.engine.live import Live
from tare.engine.paths import EnginePaths
from tare.engine.sandbox import Sandboxes
from tare.model.container import Container
from tare.runtime.filters import CompiledFilters
from tare.runtime.log_options import journal_entry, writes_files
from tare.runtime.supervisor import Created, Supervisor


class Launcher:
    """Brings containers up. What went wrong half-way is undone before the error is passed on."""

    def __init__(
        self,
        *,
        sandboxes: Sandboxes,
        bundles: BundleWriter,
        supervisor: Supervisor,
        filters: CompiledFilters,
        paths: EnginePaths,
        failures: Failures,
    ) -> None:
        self._sandboxes = sandboxes
        self._bundles = bundles
        self._supervisor = supervisor
        self._filters = filters
        self._paths = paths
        self._failures = failures

    async def launch(self, container: Container, live: Live) -> Created:
        """Start the container's process; who attached in advance is connected before it runs."""
        async with AsyncExitStack() as undo:
            undo.push_async_callback(self._sandboxes.unmount_root, container.id)
            root = await self._sandboxes.mount_root(container, running=True)
            undo.push_async_exit(self._failures.explaining(container))
            undo.push_async_callback(self._sandboxes.disconnect, container.id)
            namespace = await self._sandboxes.open_namespace(container)
            files = await self._sandboxes.make_files(container)
            undo.push_async_callback(self._supervisor.delete, container.id)
            created = await self._create(container, root, namespace, files)
            await self._attach(container, live)
            await self._supervisor.start(container.id)
            undo.pop_all()
        return created

    async def _create(
        self, container: Container, root: Path, namespace: Path | None, files: dict[str, Path]
    ) -> Created:
        """Have the runtime create the container while the kernel makes its interfaces: each takes its time."""
        networking = asyncio.create_task(self._connect(container))
        try:
            mounted = await self._sandboxes.mounts.prepare(container)
            await self._failures.foresee(mounted, self._supervisor.runtime.of(container.id))
            spec = await self._bundles.spec(mounted, root, namespace, files)
            directory = self._paths.container(container.id)
            await asyncio.to_thread(self._write, directory, spec)
            created = await self._supervisor.create(
                container.id,
                directory,
                log_path=self._paths.log(container.id) if writes_files(container) else None,
                journal=journal_entry(container),
                terminal=container.config.tty,
                open_stdin=container.config.open_stdin,
                # A terminal outlives the client that leaves it by the detach keys and comes back.
                stdin_once=container.config.stdin_once and not container.config.tty,
            )
            await asyncio.to_thread(self._filters.keep, spec, container.id)
        except BaseException:
            networking.cancel()
            await finish(asyncio.wait([networking]), what=f"network of {container.name}")
            raise
        await networking
        return created

    def _write(self, directory: Path, spec: dict[str, Any]) -> None:
        self._filters.offer(spec)
        write_spec(directory, spec)

    async def _connect(self, container: Container) -> None:
        await self._sandboxes.connect(container)
        await self._sandboxes.fill_files(container)

    async def _attach(self, container: Container, live: Live) -> None:
        for attachment in live.attachments:
            if not attachment.is_closed:
                attachment.begin(await self._supervisor.attach(container.id))
        live.attachments.clear()
        size = container.host_config.console_size
        if container.config.tty and size and any(size):
            self._supervisor.resize(container.id, size[0], size[1])
