"""Runs one health check of one container: a command in it, or a connection from inside its network namespace."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from pathlib import Path

from tare.engine.bundle import BundleWriter
from tare.engine.clock import format_ns
from tare.engine.events import Events
from tare.engine.execs import command_words
from tare.engine.health_checks import HealthCheck, NetworkTarget
from tare.engine.health_records import CheckResult
from tare.engine.requests import ExecConfig
from tare.errors import TareError
from tare.model import new_id
from tare.model.container import Container
from tare.network.probing import connect_tcp, get_http
from tare.network.service import NetworkService
from tare.runtime.supervisor import Supervisor

logger = logging.getLogger(__name__)

OUTPUT_LIMIT = 4096  # bytes, as in Docker
FAILED = -1
KILLED_CODE = 137


class HealthProbes:
    """Runs checks. Cancelling one ends what it has started."""

    def __init__(
        self, *, bundles: BundleWriter, supervisor: Supervisor, network: NetworkService, events: Events
    ) -> None:
        self._bundles = bundles
        self._supervisor = supervisor
        self._network = network
        self._events = events

    async def run(self, container: Container, check: HealthCheck) -> CheckResult:
        """Check once. What goes wrong is not raised: it is a failed check with the reason as its output."""
        started = time.time_ns()
        try:
            if check.target is not None:
                code, output = await self._connect(container, check.target, check.timeout)
            else:
                code, output = await self._execute(container, check)
        except (TareError, OSError, ValueError) as error:
            code, output = FAILED, error.message if isinstance(error, TareError) else str(error)
        return CheckResult(start=format_ns(started), end=format_ns(time.time_ns()), exit_code=code, output=output)

    async def _execute(self, container: Container, check: HealthCheck) -> tuple[int, str]:
        config = ExecConfig(cmd=check.command, attach_stdout=True, attach_stderr=True)
        exec_id = new_id()
        words = command_words(check.command)
        self._emit(container, f"exec_create: {words}", exec_id)
        process = await self._bundles.exec_process(container, config, terminal=False)
        outcome = await self._supervisor.probe(
            container.id,
            process,
            timeout=check.timeout,
            limit=OUTPUT_LIMIT,
            on_start=lambda _pid: self._emit(container, f"exec_start: {words}", exec_id),
        )
        code = KILLED_CODE if outcome.code is None else outcome.code
        self._emit(container, "exec_die", exec_id, {"exitCode": str(code)})
        text = _text(outcome.output, truncated=outcome.truncated)
        return (FAILED, _too_long(check.timeout, text)) if outcome.code is None else (code, text)

    def _emit(self, container: Container, action: str, exec_id: str, extra: dict[str, str] | None = None) -> None:
        attributes = {**(container.config.labels or {}), "image": container.image_name, "name": container.name}
        self._events.publish("container", action, container.id, {**attributes, "execID": exec_id, **(extra or {})})

    async def _connect(self, container: Container, target: NetworkTarget, timeout: float) -> tuple[int, str]:
        namespace = self._namespace(container)
        try:
            async with asyncio.timeout(timeout):
                if target.kind == "tcp":
                    await connect_tcp(namespace, target.addresses, target.port)
                    return 0, f"TCP port {target.port}: connected"
                answer = await get_http(namespace, target.addresses, target.port, target.path, OUTPUT_LIMIT)
        except TimeoutError:
            return FAILED, _too_long(timeout, "")
        except OSError as error:
            kind = target.kind.upper()
            return 1, f"{kind} port {target.port}: {os.strerror(error.errno or 0).lower()}"
        text = _text(answer.body, truncated=answer.truncated)
        code = 0 if 200 <= answer.status < 400 else 1
        return code, f"HTTP {answer.status} {answer.reason}\n{text}"

    def _namespace(self, container: Container) -> Path | None:
        mode = container.host_config.network_mode
        if mode == "host":
            return None
        owner = mode.removeprefix("container:") if mode.startswith("container:") else container.id
        return self._network.sandbox_path(owner)


def _text(data: bytes, *, truncated: bool) -> str:
    return data.decode(errors="replace") + ("..." if truncated else "")


def _too_long(timeout: float, text: str) -> str:
    words = f"Health check exceeded timeout ({go_duration(timeout)})"
    return f"{words}: {text}" if text else words


def go_duration(seconds: float) -> str:
    """Seconds as Go's ``time.Duration`` prints them: ``300ms``, ``1m30s``, ``1h0m0s``."""
    nanoseconds = round(seconds * 1e9)
    if nanoseconds < 1_000_000_000:
        for unit, size in (("ms", 1_000_000), ("µs", 1_000), ("ns", 1)):
            if nanoseconds >= size:
                return f"{nanoseconds / size:.9g}{unit}"
        return "0s"
    minutes, rest = divmod(nanoseconds, 60_000_000_000)
    hours, minutes = divmod(minutes, 60)
    text = f"{rest / 1e9:.9f}".rstrip("0").rstrip(".") + "s"
    if hours:
        return f"{hours}h{minutes}m{text}"
    return f"{minutes}m{text}" if minutes else text
