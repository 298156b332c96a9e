"""Start, stop, watch and end containers.

One lock per container orders its changes. What is running is watched by one task, which ends with the process and then
takes the surroundings down, tells who waits, and starts again or removes where that was asked for.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal as signals
import time
from collections.abc import Coroutine, Sequence
from typing import Any

from tare.base.locks import KeyedLocks
from tare.base.shielding import finish
from tare.engine.clock import ZERO_TIME, format_ns, now, to_seconds
from tare.engine.endings import check_end_is_stored, store_when_there_is_space
from tare.engine.events import Events
from tare.engine.failures import Failures
from tare.engine.health import UNHEALTHY, HealthMonitors, initial_health
from tare.engine.health_checks import health_check
from tare.engine.launch import Launcher
from tare.engine.live import LiveContainers
from tare.engine.log_keeping import LogKeeping
from tare.engine.oom import OomWatch
from tare.engine.records import ContainerRecords
from tare.engine.removal import Remover
from tare.engine.requests import Exit
from tare.engine.restarts import Ended, ends_when_unhealthy, next_delay
from tare.engine.sandbox import Sandboxes
from tare.engine.use_events import UseEvents
from tare.errors import (
    Conflict,
    Diagnosis,
    ExecutableError,
    Exhausted,
    NotFound,
    NotModified,
    TareError,
    Unavailable,
)
from tare.model import ContainerStatus
from tare.model.container import Container, ContainerState
from tare.model.signals import parse_signal
from tare.runtime.supervisor import Exit as ProcessExit
from tare.runtime.supervisor import Supervisor

logger = logging.getLogger(__name__)

DEFAULT_STOP_SECONDS = 10
KILL_SECONDS = 10.0  # as in Docker
STARTS_AT_ONCE = 4  # when an engine starts what ran before


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
        health: HealthMonitors,
        events: Events,
        use_events: UseEvents,
        locks: KeyedLocks,
        failures: Failures,
        logs: LogKeeping,
        oom: OomWatch,
    ) -> None:
        self._records = records
        self.live = live
        self._sandboxes = sandboxes
        self._launcher = launcher
        self._supervisor = supervisor
        self._remover = remover
        self._health = health
        health.on_unhealthy = self._found_unhealthy
        self._events = events
        self._use_events = use_events
        self._locks = locks
        self._failures = failures
        self._logs = logs
        self._oom = oom
        oom.on_oom = self._out_of_memory
        self._background: set[asyncio.Task[None]] = set()
        self._cleanups: set[asyncio.Task[None]] = set()
        self.closing = False
        self.restarts_begun = False  # set when recovery has told what is left from what is new
        self.ending_containers = False  # the engine takes its containers with it: no policy applies

    async def start(self, reference: str) -> None:
        """Start a container. Raises NotModified when it runs, Conflict when it cannot start, and what goes wrong."""
        container = await self._records.get(reference)
        async with self._locks.hold(container.id):
            container = await self._records.get(container.id)
            self._check_startable(container)
            self._cancel_restart(container.id)
            await self._start_locked(container, afresh=True)

    def _check_startable(self, container: Container) -> None:
        status = ContainerStatus(container.state.status)
        if status is ContainerStatus.RUNNING:
            raise NotModified(f"container {container.name} is already running")
        if status is ContainerStatus.PAUSED:
            raise Conflict("cannot start a paused container, try unpause instead")
        if not (status.can_start or status is ContainerStatus.RESTARTING):
            raise Conflict("container is marked for removal and cannot be started", code="removing")

    async def _start_locked(self, container: Container, *, afresh: bool = False) -> None:
        try:
            await self._bring_up(container, afresh=afresh)
        except BaseException as error:
            live = self.live.of(container.id)
            for attachment in live.attachments:
                attachment.give_up()
            live.attachments.clear()
            await finish(self._note_failure(container, error), what=f"start of {container.name}")
            raise

    async def _bring_up(self, container: Container, *, afresh: bool) -> None:
        """Start the process; ``afresh``, not by the restart policy, counts its restarts from the beginning."""
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
            state.stopping = False
            state.restart_at = ZERO_TIME
            if afresh:
                state.restart_count, state.restart_delay = 0, 0.0
            state.health = initial_health(container)

        try:
            started = await self._records.set_state(container.id, running)
        except BaseException:
            await finish(self.take_down(container.id), what=f"start of {container.name}")
            raise
        live.exited.clear()
        live.end_announced = live.out_of_memory = False
        live.unstored_end = None
        self.watch(started)
        await self._use_events.begun(started)
        self.emit(started, "start")
        self._health.begin(started)

    async def _note_failure(self, container: Container, error: BaseException) -> None:
        code = error.exit_code if isinstance(error, ExecutableError) else 128
        restarting = container.state.status == ContainerStatus.RESTARTING

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
        elif restarting:  # who waited for the end of all restarts has it now
            self.live.wake(container.id, {"not-running"}, Exit(code=code))

    def watch(self, container: Container) -> None:
        """Wait for the process's end in a task of its own."""
        self._logs.begin(container)
        self._oom.begin(container)
        live = self.live.of(container.id)
        live.monitor = asyncio.create_task(self._monitor(container.id), name=f"monitor {container.id[:12]}")

    async def _monitor(self, container_id: str) -> None:
        try:
            outcome = await self._supervisor.wait(container_id)
            await self._logs.end(container_id)

            async def settle() -> None:
                async with self._locks.hold(container_id):
                    await self.ended(container_id, outcome)

            await store_when_there_is_space(container_id, settle)
        except asyncio.CancelledError:
            raise
        except Exception:
            logger.exception("container %s: lost track of its end", container_id[:12])

    async def ended(self, container_id: str, outcome: ProcessExit, *, restart_now: bool = False) -> None:
        """Settle the end of a container's process; the caller holds its lock.

        With ``restart_now`` the end is not the container's doing (a reboot): nothing is counted, no time is waited.
        """
        await self._health.end(container_id)
        await self._oom.end(container_id)
        container = await self._records.get(container_id)
        live = self.live.of(container_id)
        if outcome.oom_killed and not (container.state.oom_killed or live.out_of_memory):
            await self._out_of_memory(container_id)  # only the supervisor has seen it
        run = _how_it_ended(container, outcome)
        diagnosis = await self._diagnose(container, outcome)
        asked = live.restart_asked
        delay = None if asked or self.ending_containers else next_delay(container, run)
        if delay is None and container.host_config.auto_remove and not asked:
            await self._vanish(container, outcome, diagnosis)
            return
        if delay is not None and restart_now:
            delay = 0.0

        def settled(state: ContainerState) -> None:
            state.status = ContainerStatus.EXITED if delay is None else ContainerStatus.RESTARTING
            state.exit_code = outcome.code
            state.error = outcome.error
            state.oom_killed = state.oom_killed or outcome.oom_killed or live.out_of_memory
            state.pid = 0
            state.conmon_pid = 0
            state.finished_at = now()
            state.diagnosis = diagnosis
            state.stopping = False
            if state.health is not None:
                state.health.status = UNHEALTHY  # as in Docker, while nothing checks it
            if delay is not None:
                state.restart_at = format_ns(time.time_ns() + round(delay * 1e9))
            if delay:
                state.restart_count += 1
                state.restart_delay = delay

        # The exit code is stored before the file that holds it goes with the surroundings.
        exited = Exit(code=outcome.code, diagnosis=diagnosis)
        waits = {"not-running", "next-exit"} if delay is None else {"next-exit"}
        try:
            container = await self._records.set_state(container_id, settled, freeing=True)
        except Exhausted:
            self._leave_unstored(container_id, waits, exited)
            raise
        live.unstored_end = None
        await self.take_down(container_id)
        await self._announce_end(container, outcome, run)
        live.exited.set()
        self.live.wake(container_id, waits, exited)
        if delay is not None and self.restarts_begun:
            self.restart_later(container)

    async def _out_of_memory(self, container_id: str) -> None:
        """A process of the container was killed for want of memory: noted and told at once, as in Docker."""

        def noted(state: ContainerState) -> None:
            state.oom_killed = True

        self.live.of(container_id).out_of_memory = True
        with contextlib.suppress(NotFound):
            try:
                container = await self._records.set_state(container_id, noted)
            except Exhausted:
                container = await self._records.get(container_id)
                logger.warning("container %s ran out of memory, which cannot be stored", container_id[:12])
            self.emit(container, "oom")

    async def _announce_end(self, container: Container, outcome: ProcessExit, run: Ended) -> None:
        live = self.live.of(container.id)
        if live.end_announced:  # before the attempt to store it that failed
            return
        live.end_announced = True
        await self._use_events.ended(container)
        self.emit(container, "die", {"execDuration": str(int(run.ran)), "exitCode": str(outcome.code)})

    async def _diagnose(self, container: Container, outcome: ProcessExit) -> Diagnosis | None:
        """Why it ended; asked while its root is still mounted. What the user has stopped needs no reason."""
        if container.state.stopped_by_user or container.state.stopping:
            return None
        return await self._failures.after_exit(container, outcome.code, oom_killed=outcome.oom_killed)

    async def _vanish(self, container: Container, outcome: ProcessExit, diagnosis: Diagnosis | None) -> None:
        """End a container of ``--rm``: ports and name are free when waiters hear of it, files go afterwards."""
        live = self.live.of(container.id)
        await finish(self._sandboxes.disconnect(container.id), what=f"network of {container.name}")
        await self._announce_end(container, outcome, _how_it_ended(container, outcome))
        await finish(self._sandboxes.mounts.release(container.id), what=f"mounts of {container.name}")
        ended = Exit(code=outcome.code, diagnosis=diagnosis)
        try:
            await self._remover.forget(container, volumes=True)
        except Exhausted:
            self._leave_unstored(container.id, {"not-running", "next-exit"}, ended)
            raise
        live.exited.set()
        self.live.wake(container.id, {"not-running", "next-exit", "removed"}, ended)
        self.live.forget(container.id)
        task = asyncio.create_task(self._clear_away(container.id))
        self._cleanups.add(task)
        task.add_done_callback(self._cleanups.discard)

    def _leave_unstored(self, container_id: str, waits: set[str], exited: Exit) -> None:
        """The disk is full, and it is tried again later: who waits for the process's end need not wait for that."""
        live = self.live.of(container_id)
        live.unstored_end = exited
        live.exited.set()
        self.live.wake(container_id, waits, exited)

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

    def restart_later(self, container: Container) -> None:
        """Start a container that is ``restarting`` at the time that is stored with it."""
        seconds = max(0.0, to_seconds(container.state.restart_at) - time.time())
        timer = asyncio.get_running_loop().call_later(seconds, lambda: self._spawn(self._restart_again(container.id)))
        self.live.of(container.id).restarting = timer

    def restart_in_order(self, containers: Sequence[Container]) -> None:
        """Start containers that are ``restarting``, at once; who joins another's namespaces comes after the others."""
        self._spawn(self._restart_in_order(containers))

    async def _restart_in_order(self, containers: Sequence[Container]) -> None:
        limit = asyncio.Semaphore(STARTS_AT_ONCE)

        async def restart(container: Container) -> None:
            async with limit:
                await self._restart_again(container.id)

        joining = [container for container in containers if _joins_another(container)]
        await asyncio.gather(*(restart(container) for container in containers if container not in joining))
        for container in joining:
            await restart(container)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    def _cancel_restart(self, container_id: str) -> None:
        live = self.live.of(container_id)
        if live.restarting is not None:
            live.restarting.cancel()
            live.restarting = None

    async def _restart_again(self, container_id: str) -> None:
        try:
            async with self._locks.hold(container_id):
                container = await self._records.get(container_id)
                if container.state.status == ContainerStatus.RESTARTING and not self.closing:
                    await self._start_locked(container)
        except TareError as error:
            logger.warning("container %s does not start again: %s", container_id[:12], error)

    def _found_unhealthy(self, container_id: str) -> None:
        self._spawn(self._end_unhealthy(container_id))

    async def _end_unhealthy(self, container_id: str) -> None:
        """Stop a container whose policy starts it again when it is unhealthy; the restart follows from its end."""
        with contextlib.suppress(NotFound):
            container = await self._records.get(container_id)
            if (
                container.state.status == ContainerStatus.RUNNING
                and ends_when_unhealthy(container)
                and not self.closing
            ):
                logger.info("container %s is unhealthy, stopping it to start it again", container_id[:12])
                await self._end_process(container, seconds=None, signal=None)

    async def stop(
        self,
        reference: str,
        *,
        timeout: int | None = None,
        signal: str | None = None,
        by_user: bool = True,
        announce: bool = True,
    ) -> None:
        """Ask the process to end, kill it after ``timeout`` seconds (-1: never). Raises NotModified.

        ``by_user``: restart policies leave it alone afterwards. ``announce``: with the event ``stop``; a removal by
        force has ``kill``, ``die`` and ``destroy`` alone, as in Docker.
        """
        number = parse_signal(signal) if signal else None
        container = await self._records.get(reference)
        async with self._locks.hold(container.id):
            container = await self._records.get(container.id)
            if container.state.status == ContainerStatus.RESTARTING:
                if by_user:
                    await self._end_restarting(container)
                return
            if not ContainerStatus(container.state.status).is_live:
                raise NotModified(f"container {container.name} is not running")
            if by_user:
                # Before the signal: an engine that is killed now must know that no policy may undo this.
                container = await self._records.set_state(container.id, _stopping, freeing=True)
        await self._end_process(container, seconds=timeout, signal=number)
        if announce:
            self.emit(container, "stop")

    def finish_stop(self, container: Container) -> None:
        """Go on with a stop that an earlier engine process began."""
        self._spawn(self._end_process(container, seconds=None, signal=None))

    async def _end_process(self, container: Container, *, seconds: int | None, signal: int | None) -> None:
        if seconds is None:
            seconds = container.config.stop_timeout
        if seconds is None:
            seconds = DEFAULT_STOP_SECONDS
        # Without any time for it, too, as in Docker: a process that needs none ends by the signal that it knows.
        number = signal or parse_signal(container.config.stop_signal or "SIGTERM")
        await self._signal_if_alive(container, number)
        unlimited = seconds < 0 or number == signals.SIGKILL  # which nothing follows
        if not await self._exits_within(container.id, None if unlimited else float(seconds)):
            await self._signal_if_alive(container, signals.SIGKILL)
            await self._exits_within(container.id, None)

    async def _end_restarting(self, container: Container) -> None:
        """Give up the restart that is due; the caller holds the lock."""
        self._cancel_restart(container.id)

        def settled(state: ContainerState) -> None:
            state.status = ContainerStatus.EXITED
            state.stopped_by_user = True
            state.restart_at = ZERO_TIME

        container = await self._records.set_state(container.id, settled)
        self.live.wake(container.id, {"not-running"}, Exit(code=container.state.exit_code))

    async def _exits_within(self, container_id: str, seconds: float | None) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self.live.of(container_id).exited.wait()
        except TimeoutError:
            return False
        return True

    async def kill(self, reference: str, signal: str) -> None:
        """Send a signal; SIGKILL waits for the end.

        Raises Conflict when the container is not running, InvalidArgument for an unknown signal, Unavailable when it
        does not end.
        """
        container = await self._records.get(reference)
        number = parse_signal(signal or "SIGKILL")
        ends = number in (signals.SIGKILL, parse_signal(container.config.stop_signal or "SIGTERM"))
        async with self._locks.hold(container.id):
            container = await self._records.get(container.id)
            if container.state.status == ContainerStatus.RESTARTING:
                await self._end_restarting(container)
                return
            if not ContainerStatus(container.state.status).is_live:
                raise Conflict(f"cannot kill container: {reference}: container {container.id} is not running")
            if ends:
                container = await self._records.set_state(container.id, _stopped_by_user, freeing=True)
            await self._signal(container, number)
        self.emit(container, "kill", {"signal": str(number)})
        if number == signals.SIGKILL and not await self._exits_within(container.id, KILL_SECONDS):
            raise Unavailable(
                f"cannot kill container: {reference}: it has not ended within {KILL_SECONDS:g} seconds",
                hint="a process in uninterruptible sleep, or a client that is attached and does not read, holds it up",
                code="not-ended",
            )

    async def _signal_if_alive(self, container: Container, number: int) -> None:
        with contextlib.suppress(Conflict, NotFound):  # it ended by itself meanwhile: that is what was wanted
            await self._signal(container, number)
            self.emit(container, "kill", {"signal": str(int(number))})

    async def _signal(self, container: Container, number: int) -> None:
        if container.state.status == ContainerStatus.PAUSED and number in (signals.SIGKILL, signals.SIGTERM):
            await self._supervisor.resume(container.id)
        await self._supervisor.kill(container.id, number)

    async def restart(self, reference: str, *, timeout: int | None = None, signal: str | None = None) -> None:
        """Stop, when it runs, and start."""
        container = await self._records.get(reference)
        live = self.live.of(container.id)
        live.restart_asked = True
        try:
            with contextlib.suppress(NotModified):
                await self.stop(container.id, timeout=timeout, signal=signal, by_user=False)
        finally:
            live.restart_asked = False
        check_end_is_stored(live, container)
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
            checked = False
            if after is ContainerStatus.PAUSED:
                checked = await self._health.end(container.id)  # nothing can be run in what is frozen
            operation, opposite = self._supervisor.pause, self._supervisor.resume
            if action == "unpause":
                operation, opposite = opposite, operation
            try:
                await operation(container.id)
            except BaseException:
                if checked:
                    self._health.begin(container)
                raise

            def switched(state: ContainerState) -> None:
                state.status = after
                if checked and state.health is not None:
                    state.health.status = UNHEALTHY  # as in Docker, while nothing checks it

            try:
                container = await self._records.set_state(container.id, switched)
            except BaseException:  # what is frozen must not be thought to run: nothing would thaw it
                await finish(opposite(container.id), what=f"{action} of {container.name}")
                if checked:
                    self._health.begin(container)
                raise
            self.emit(container, action)
            if after is ContainerStatus.RUNNING:
                self._health.begin(container)

    def emit(self, container: Container, action: str, extra: dict[str, str] | None = None) -> None:
        """Publish an event of a container, with its labels, as Docker does."""
        attributes = {**(container.config.labels or {}), "image": container.image_name, "name": container.name}
        self._events.publish("container", action, container.id, {**attributes, **(extra or {})})

    async def close(self) -> None:
        """Stop watching; containers go on running."""
        self.closing = True
        await self._health.close()
        await self._oom.close()
        tasks = [live.monitor for live in self.live.all() if live.monitor is not None]
        for live in self.live.all():
            if live.restarting is not None:
                live.restarting.cancel()
        for task in (*tasks, *self._background):
            task.cancel()
        await asyncio.gather(*tasks, *self._background, return_exceptions=True)
        await self.settle()


def _joins_another(container: Container) -> bool:
    host = container.host_config
    return any(mode.startswith("container:") for mode in (host.network_mode, host.pid_mode, host.ipc_mode))


def _stopping(state: ContainerState) -> None:
    state.stopped_by_user = True
    state.stopping = True


def _stopped_by_user(state: ContainerState) -> None:
    state.stopped_by_user = True


def _how_it_ended(container: Container, outcome: ProcessExit) -> Ended:
    """What restart policies ask; checked and found unhealthy is not the same as not checked."""
    state = container.state
    ran = max(0.0, to_seconds(outcome.finished_at or now()) - to_seconds(state.started_at))
    check = health_check(container.config)
    unhealthy = check is not None and state.health is not None and state.health.failing_streak >= check.retries
    return Ended(code=outcome.code, ran=ran, unhealthy=unhealthy)
