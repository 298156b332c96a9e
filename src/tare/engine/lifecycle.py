"""Start, stop, watch and end containers.

One lock per container orders its changes. What is running is watched by one task, which ends with the process and then
takes the surroundings down, tells who waits, and starts again or removes where that was asked for.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal as signals

from tare.base.locks import KeyedLocks
from tare.base.shielding import finish
from tare.engine.clock import now
from tare.engine.events import Events
from tare.engine.failures import Failures
from tare.engine.launch import Launcher
from tare.engine.live import LiveContainers
from tare.engine.log_keeping import LogKeeping
from tare.engine.records import ContainerRecords
from tare.engine.removal import Remover
from tare.engine.requests import Exit
from tare.engine.sandbox import Sandboxes
from tare.errors import Conflict, Diagnosis, ExecutableError, NotFound, NotModified, TareError
from tare.model import ContainerStatus
from tare.model.container import Container, ContainerState
from tare.model.signals import parse_signal
from tare.runtime.supervisor import Supervisor

logger = logging.getLogger(__name__)

DEFAULT_STOP_SECONDS = 10
FIRST_RESTART_DELAY = 0.1  # seconds; doubled with each quick failure, as Docker does
LAST_RESTART_DELAY = 60.0
HEALTHY_RUN = 10.0  # a run of this many seconds resets the delay


class Lifecycle:
    """The transitions of containers between their states."""

    def __init__(
        self,
        *,
        records: ContainerRecords,
        live: LiveContainers,
        sandboxes: Sandboxes,
        launcher: Launcher,
        supervisor: Supervisor,
        remover: Remover,
        events: Events,
        locks: KeyedLocks,
        failures: Failures,
        logs: LogKeeping,
    ) -> None:
        self._records = records
        self.live = live
        self._sandboxes = sandboxes
        self._launcher = launcher
        self._supervisor = supervisor
        self._remover = remover
        self._events = events
        self._locks = locks
        self._failures = failures
        self._logs = logs
        self._background: set[asyncio.Task[None]] = set()
        self._cleanups: set[asyncio.Task[None]] = set()
        self.closing = False

    async def start(self, reference: str) -> None:
        """Start a container. Raises NotModified when it runs, Conflict when it cannot start, and what goes wrong."""
        container = await self._records.get(reference)
        async with self._locks.hold(container.id):
            container = await self._records.get(container.id)
            self._check_startable(container)
            live = self.live.of(container.id)
            live.user_stopped = False
            if live.restarting is not None:
                live.restarting.cancel()
                live.restarting = None
            await self._start_locked(container)

    def _check_startable(self, container: Container) -> None:
        status = ContainerStatus(container.state.status)
        if status is ContainerStatus.RUNNING:
            raise NotModified(f"container {container.name} is already running")
        if status is ContainerStatus.PAUSED:
            raise Conflict("cannot start a paused container, try unpause instead")
        if not (status.can_start or status is ContainerStatus.RESTARTING):
            raise Conflict("container is marked for removal and cannot be started", code="removing")

    async def _start_locked(self, container: Container) -> None:
        try:
            await self._bring_up(container)
        except BaseException as error:
            live = self.live.of(container.id)
            for attachment in live.attachments:
                attachment.give_up()
            live.attachments.clear()
            await finish(self._note_failure(container, error), what=f"start of {container.name}")
            raise

    async def _bring_up(self, container: Container) -> None:
        live = self.live.of(container.id)
        created = await self._launcher.launch(container, live)

        def running(state: ContainerState) -> None:
            state.status = ContainerStatus.RUNNING
            state.pid = created.pid
            state.conmon_pid = created.conmon_pid
            state.exit_code = 0
            state.error = ""
            state.oom_killed = False
            state.started_at = now()
            state.stopped_by_user = False
            state.diagnosis = None

        try:
            started = await self._records.set_state(container.id, running)
        except BaseException:
            await finish(self.take_down(container.id), what=f"start of {container.name}")
            raise
        live.exited.clear()
        self.watch(started)
        self.emit(started, "start")

    async def _note_failure(self, container: Container, error: BaseException) -> None:
        code = error.exit_code if isinstance(error, ExecutableError) else 128

        def failed(state: ContainerState) -> None:
            if state.status == ContainerStatus.RESTARTING:
                state.status = ContainerStatus.EXITED
            state.exit_code = code
            state.error = error.message if isinstance(error, TareError) else str(error)
            state.diagnosis = error.diagnosis if isinstance(error, TareError) else None
            state.pid = 0

        await self._records.set_state(container.id, failed)
        if container.host_config.auto_remove:
            await self._remover.remove_locked(container, volumes=True)
            self.live.wake(container.id, {"removed", "not-running", "next-exit"}, Exit(code=code))
            self.live.forget(container.id)

    def watch(self, container: Container) -> None:
        """Wait for the process's end in a task of its own."""
        self._logs.begin(container)
        live = self.live.of(container.id)
        live.monitor = asyncio.create_task(self._monitor(container.id), name=f"monitor {container.id[:12]}")

    async def _monitor(self, container_id: str) -> None:
        try:
            outcome = await self._supervisor.wait(container_id)
            await self._logs.end(container_id)
            async with self._locks.hold(container_id):
                await self._ended(container_id, outcome.code, oom_killed=outcome.oom_killed)
        except asyncio.CancelledError:
            raise
        except Exception:
            logger.exception("container %s: lost track of its end", container_id[:12])

    async def _ended(self, container_id: str, code: int, *, oom_killed: bool) -> None:
        live = self.live.of(container_id)
        container = await self._records.get(container_id)
        again = self._restart_delay(container, code)
        diagnosis = await self._diagnose(container, code, oom_killed=oom_killed)
        if again is None and container.host_config.auto_remove:
            await self._vanish(container, Exit(code=code, diagnosis=diagnosis), oom_killed=oom_killed)
            return
        await self.take_down(container_id)

        def ended(state: ContainerState) -> None:
            state.status = ContainerStatus.EXITED if again is None else ContainerStatus.RESTARTING
            state.exit_code = code
            state.oom_killed = oom_killed
            state.pid = 0
            state.conmon_pid = 0
            state.finished_at = now()
            state.stopped_by_user = live.user_stopped
            state.diagnosis = diagnosis
            if again is not None:
                state.restart_count += 1

        container = await self._records.set_state(container_id, ended)
        live.exited.set()
        if oom_killed:
            self.emit(container, "oom")
        self.emit(container, "die", {"exitCode": str(code)})
        outcome = Exit(code=code, diagnosis=diagnosis)
        self.live.wake(container_id, {"not-running", "next-exit"} if again is None else {"next-exit"}, outcome)
        if again is not None:
            loop = asyncio.get_running_loop()
            live.restarting = loop.call_later(again, self._spawn_restart, container_id)

    async def _diagnose(self, container: Container, code: int, *, oom_killed: bool) -> Diagnosis | None:
        """Why it ended; asked while its root is still mounted. What the user has stopped needs no reason."""
        if self.live.of(container.id).user_stopped:
            return None
        return await self._failures.after_exit(container, code, oom_killed=oom_killed)

    async def _vanish(self, container: Container, outcome: Exit, *, oom_killed: bool) -> None:
        """End a container of ``--rm``: ports and name are free when waiters hear of it, files go afterwards."""
        live = self.live.of(container.id)
        await finish(self._sandboxes.disconnect(container.id), what=f"network of {container.name}")
        if oom_killed:
            self.emit(container, "oom")
        self.emit(container, "die", {"exitCode": str(outcome.code)})
        await finish(self._sandboxes.mounts.release(container.id), what=f"mounts of {container.name}")
        await self._remover.forget(container, volumes=True)
        live.exited.set()
        self.live.wake(container.id, {"not-running", "next-exit", "removed"}, outcome)
        self.live.forget(container.id)
        task = asyncio.create_task(self._clear_away(container.id))
        self._cleanups.add(task)
        task.add_done_callback(self._cleanups.discard)

    async def _clear_away(self, container_id: str) -> None:
        await self.take_down(container_id)
        await self._remover.delete_files(container_id)

    async def settle(self) -> None:
        """Wait until the files of removed containers are gone."""
        while self._cleanups:
            await asyncio.wait(set(self._cleanups))

    async def take_down(self, container_id: str) -> None:
        """Undo what ``start`` made around a process that has ended."""
        await asyncio.gather(
            finish(self._supervisor.delete(container_id), what=f"runtime state of {container_id[:12]}"),
            finish(self._sandboxes.disconnect(container_id), what=f"network of {container_id[:12]}"),
            finish(self._sandboxes.unmount_root(container_id), what=f"root of {container_id[:12]}"),
        )

    def _restart_delay(self, container: Container, code: int) -> float | None:
        """Seconds until the restart policy starts the container again; None for never."""
        policy = container.host_config.restart_policy
        live = self.live.of(container.id)
        if self.closing or live.user_stopped or policy.name in ("", "no"):
            return None
        if policy.name == "on-failure":
            limit = policy.maximum_retry_count
            if code == 0 or (limit and container.state.restart_count >= limit):
                return None
        live.fast_failures = 0 if _ran_long(container) else live.fast_failures + 1
        return min(FIRST_RESTART_DELAY * 2.0 ** max(live.fast_failures - 1, 0), LAST_RESTART_DELAY)

    def _spawn_restart(self, container_id: str) -> None:
        task = asyncio.create_task(self._restart_again(container_id))
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _restart_again(self, container_id: str) -> None:
        with contextlib.suppress(TareError):
            async with self._locks.hold(container_id):
                container = await self._records.get(container_id)
                if container.state.status == ContainerStatus.RESTARTING and not self.closing:
                    await self._start_locked(container)

    async def stop(self, reference: str, *, timeout: int | None = None, signal: str | None = None) -> None:
        """Ask the process to end, kill it after ``timeout`` seconds (-1: never). Raises NotModified."""
        container = await self._records.get(reference)
        live = self.live.of(container.id)
        live.user_stopped = True
        if container.state.status == ContainerStatus.RESTARTING:
            await self._end_restarting(container)
            return
        if not ContainerStatus(container.state.status).is_live:
            raise NotModified(f"container {container.name} is not running")
        seconds = timeout
        if seconds is None:
            seconds = container.config.stop_timeout
        if seconds is None:
            seconds = DEFAULT_STOP_SECONDS
        ended = False
        if seconds != 0:
            await self._signal_if_alive(container, parse_signal(signal or container.config.stop_signal or "SIGTERM"))
            ended = await self._exits_within(container.id, None if seconds < 0 else float(seconds))
        if not ended:
            await self._signal_if_alive(container, signals.SIGKILL)
            await self._exits_within(container.id, None)
        self.emit(container, "stop")

    async def _end_restarting(self, container: Container) -> None:
        async with self._locks.hold(container.id):
            live = self.live.of(container.id)
            if live.restarting is not None:
                live.restarting.cancel()
                live.restarting = None

            def settled(state: ContainerState) -> None:
                if state.status == ContainerStatus.RESTARTING:
                    state.status = ContainerStatus.EXITED
                    state.stopped_by_user = True

            settled_container = await self._records.set_state(container.id, settled)
            self.live.wake(container.id, {"not-running"}, Exit(code=settled_container.state.exit_code))

    async def _exits_within(self, container_id: str, seconds: float | None) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self.live.of(container_id).exited.wait()
        except TimeoutError:
            return False
        return True

    async def kill(self, reference: str, signal: str) -> None:
        """Send a signal. Raises Conflict when the container is not running, InvalidArgument for an unknown signal."""
        container = await self._records.get(reference)
        number = parse_signal(signal or "SIGKILL")
        if not ContainerStatus(container.state.status).is_live:
            raise Conflict(f"cannot kill container: {reference}: container {container.id} is not running")
        if number in (signals.SIGKILL, parse_signal(container.config.stop_signal or "SIGTERM")):
            self.live.of(container.id).user_stopped = True
        await self._signal(container, number)
        self.emit(container, "kill", {"signal": str(number)})

    async def _signal_if_alive(self, container: Container, number: int) -> None:
        with contextlib.suppress(Conflict, NotFound):  # it ended by itself meanwhile: that is what was wanted
            await self._signal(container, number)

    async def _signal(self, container: Container, number: int) -> None:
        if container.state.status == ContainerStatus.PAUSED and number in (signals.SIGKILL, signals.SIGTERM):
            await self._supervisor.resume(container.id)
        await self._supervisor.kill(container.id, number)

    async def restart(self, reference: str, *, timeout: int | None = None, signal: str | None = None) -> None:
        """Stop, when it runs, and start."""
        container = await self._records.get(reference)
        with contextlib.suppress(NotModified):
            await self.stop(container.id, timeout=timeout, signal=signal)
        with contextlib.suppress(NotModified):
            await self.start(container.id)
        self.emit(container, "restart")

    async def pause(self, reference: str) -> None:
        """Freeze every process. Raises Conflict when it does not run or is paused."""
        await self._switch(reference, ContainerStatus.RUNNING, ContainerStatus.PAUSED, "pause")

    async def unpause(self, reference: str) -> None:
        """Thaw. Raises Conflict when it is not paused."""
        await self._switch(reference, ContainerStatus.PAUSED, ContainerStatus.RUNNING, "unpause")

    async def _switch(self, reference: str, before: ContainerStatus, after: ContainerStatus, action: str) -> None:
        container = await self._records.get(reference)
        async with self._locks.hold(container.id):
            container = await self._records.get(container.id)
            if container.state.status != before:
                raise Conflict(f"Container {container.id} is not {before}")
            operation = self._supervisor.pause if action == "pause" else self._supervisor.resume
            await operation(container.id)

            def switched(state: ContainerState) -> None:
                state.status = after

            await self._records.set_state(container.id, switched)
            self.emit(container, action)

    def emit(self, container: Container, action: str, extra: dict[str, str] | None = None) -> None:
        """Publish an event of a container, with its labels, as Docker does."""
        attributes = {**(container.config.labels or {}), "image": container.image_name, "name": container.name}
        self._events.publish("container", action, container.id, {**attributes, **(extra or {})})

    async def close(self) -> None:
        """Stop watching; containers go on running."""
        self.closing = True
        tasks = [live.monitor for live in self.live.all() if live.monitor is not None]
        for live in self.live.all():
            if live.restarting is not None:
                live.restarting.cancel()
        for task in (*tasks, *self._background):
            task.cancel()
        await asyncio.gather(*tasks, *self._background, return_exceptions=True)
        await self.settle()


def _ran_long(container: Container) -> bool:
    from tare.engine.clock import to_seconds

    return to_seconds(now()) - to_seconds(container.state.started_at) >= HEALTHY_RUN
