"""Health monitors: one task per running container that has a check; it sleeps between checks and notes the results.

A container's health is ``starting`` from each start on, ``healthy`` after a success, ``unhealthy`` after ``retries``
failures in a row (failures in the start period don't count), and ``unhealthy`` while nothing checks it: paused, ended.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from tare.engine.clock import to_seconds
from tare.engine.events import Events
from tare.engine.health_checks import HealthCheck, health_check
from tare.engine.health_probes import HealthProbes
from tare.engine.health_records import KEPT_RESULTS, CheckResult, HealthRecords
from tare.errors import NotFound
from tare.model.container import Container, HealthState

logger = logging.getLogger(__name__)

STARTING, HEALTHY, UNHEALTHY = "starting", "healthy", "unhealthy"


def initial_health(container: Container) -> HealthState | None:
    """The health with which a container starts; None when it has no check."""
    return HealthState() if health_check(container.config) is not None else container.state.health


def judge(health: HealthState, result: CheckResult, check: HealthCheck, started_at: str) -> HealthState:
    """The health after ``result``, by Docker's rules. ``started_at``: when the container started (RFC 3339)."""
    if result.exit_code == 0:
        return HealthState(status=HEALTHY, failing_streak=0)
    in_start_period = to_seconds(result.start) - to_seconds(started_at) < check.start_period
    if health.status == STARTING and in_start_period:
        return health
    streak = health.failing_streak + 1
    return HealthState(status=UNHEALTHY if streak >= check.retries else health.status, failing_streak=streak)


class HealthMonitors:
    """Starts and ends the monitors. ``on_unhealthy`` is called with a container's id when checks find it unhealthy."""

    def __init__(self, *, records: HealthRecords, probes: HealthProbes, events: Events) -> None:
        self._records = records
        self._probes = probes
        self._events = events
        self._monitors: dict[str, asyncio.Task[None]] = {}
        self.on_unhealthy: Callable[[str], None] = lambda _container_id: None

    def begin(self, container: Container) -> None:
        """Check a running container from now on; nothing happens when it has no check, or is checked already."""
        check = health_check(container.config)
        if check is None or container.state.health is None or container.id in self._monitors:
            return
        task = asyncio.create_task(self._monitor(container, check), name=f"health {container.id[:12]}")
        self._monitors[container.id] = task
        task.add_done_callback(lambda _task: self._forget(container.id, task))

    def _forget(self, container_id: str, task: asyncio.Task[None]) -> None:
        if self._monitors.get(container_id) is task:
            del self._monitors[container_id]

    async def end(self, container_id: str) -> bool:
        """Stop checking, ending a check that runs. Returns whether the container was being checked."""
        task = self._monitors.pop(container_id, None)
        if task is None:
            return False
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return True

    async def log(self, container_id: str) -> list[CheckResult]:
        """The last results, oldest first."""
        return await self._records.log(container_id)

    async def close(self) -> None:
        """End all monitors; what is known stays stored."""
        await asyncio.gather(*(self.end(container_id) for container_id in list(self._monitors)))

    async def _monitor(self, container: Container, check: HealthCheck) -> None:
        results = await self._records.log(container.id)
        health = container.state.health or HealthState()
        started = to_seconds(container.state.started_at)
        while True:
            await asyncio.sleep(check.pause(running_for=time.time() - started, status=health.status))
            result = await self._probes.run(container, check)
            results = [*results, result][-KEPT_RESULTS:]
            before, health = health, judge(health, result, check, container.state.started_at)
            try:
                await self._records.write_log(container.id, results)
                if health != before:
                    container = await self._records.set_health(container.id, health)
            except NotFound:
                return
            if health.status != before.status:
                self._announce(container, health.status)

    def _announce(self, container: Container, status: str) -> None:
        attributes = {**(container.config.labels or {}), "image": container.image_name, "name": container.name}
        self._events.publish("container", f"health_status: {status}", container.id, attributes)
        if status == UNHEALTHY:
            self.on_unhealthy(container.id)
