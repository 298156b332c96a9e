"""Says why a container or exec did not start, or ended at once: a post mortem, which costs nothing when all is well.

Errors keep Docker's words; ``code``, ``hint`` and ``diagnosis`` are added. Looking may fail (a volume's server is
gone, files change): then the error stays as it is.
"""

from __future__ import annotations

import asyncio
import logging
import posixpath
import re
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path
from types import TracebackType

from tare.diagnosis.command import diagnose_command
from tare.diagnosis.messages import Settings, diagnose_message, out_of_memory
from tare.diagnosis.output import COMMAND_CODES, diagnose_output
from tare.diagnosis.tree import Identity, Mount, Outcome, Tree
from tare.diagnosis.view import View
from tare.engine.clock import now, to_seconds
from tare.engine.log_keeping import LogKeeping
from tare.engine.paths import EnginePaths
from tare.engine.preflight import check_command, check_mount_points, check_sources
from tare.engine.requests import ExecConfig
from tare.errors import Diagnosis, ExecutableError, InvalidArgument, TareError
from tare.model.container import Container, MountPoint
from tare.model.execution import ExecRequest
from tare.runtime.capabilities import effective
from tare.runtime.host import HostFacts
from tare.runtime.logs import LogQuery
from tare.runtime.oci_runtime import OciRuntime
from tare.runtime.users import UserIds, resolve_user
from tare.store.store import Store

logger = logging.getLogger(__name__)

_TAIL_LINES = 20
_TAIL_BYTES = 64 * 1024
_OPAQUE = ("/proc", "/sys", "/dev")
SOON = 10.0
"""Seconds; a container that ran for longer had what it needs to start."""
_SOON_CODES = (1, 2)
"""What loaders, shells and programs end with when they lack something."""
_FILE_CODES = (*COMMAND_CODES, 255, 135, 139)
"""With these the program's file is looked at: 255 is some runtimes' when it is refused in the last moment; of SIGBUS
and SIGSEGV also a program dies that is cut off."""


class Failures:
    """Explains failures of containers whose root file system is still mounted."""

    def __init__(self, *, store: Store, paths: EnginePaths, facts: HostFacts, logs: LogKeeping) -> None:
        self._store = store
        self._logs = logs
        self._paths = paths
        self._facts = facts

    def explaining(self, container: Container, exec_: ExecConfig | None = None) -> Explaining:
        """A context that adds the cause to an error of its block, which starts ``container``, or ``exec_`` in it."""
        return Explaining(self, container, exec_)

    async def foresee(self, container: Container, runtime: OciRuntime, exec_: ExecConfig | None = None) -> None:
        """Raise what ``runtime`` would find out too late, or never; see ``preflight``."""
        await asyncio.to_thread(self._foresee, container, runtime, exec_)

    def _foresee(self, container: Container, runtime: OciRuntime, exec_: ExecConfig | None) -> None:
        if exec_ is None:
            check_sources(container)
        if not runtime.looks_as_root or container.ids is not None:
            return
        view = self._view(container, exec_, "", entering=True)
        if exec_ is not None:
            check_command(view, exec_.cmd[0])
            return
        check_mount_points(container, self._paths.rootfs(container.id), runtime.name)
        if not container.host_config.init:
            check_command(view, container.path, runtime=runtime.name)

    async def explain(self, error: TareError, container: Container, exec_: ExecConfig | None = None) -> None:
        """Add the cause to ``error``, where it can be found."""
        if error.diagnosis is not None:
            return
        try:
            if error.hint:
                error.diagnosis = _of_hint(error)
            else:
                architecture = await self._image_architecture(container)
                error.diagnosis = await asyncio.to_thread(self._look, error, container, exec_, architecture)
        except Exception:
            logger.exception("container %s: its failure could not be explained", container.id[:12])
        if error.diagnosis is not None:
            error.code = error.diagnosis.code
            error.hint = str(error.diagnosis)

    async def after_exit(self, container: Container, code: int, *, oom_killed: bool) -> Diagnosis | None:
        """Why the container's process has ended with ``code`` just now, where that can be known."""
        if code == 0:
            return None
        if oom_killed:
            return out_of_memory(self._settings(container))
        soon = to_seconds(now()) - to_seconds(container.state.started_at) < SOON
        if code not in _FILE_CODES and not (soon and code in _SOON_CODES):
            return None
        try:
            text = await self._last_words(container)
            if code not in _FILE_CODES and not text and container.host_config.log_config.type != "none":
                return None
            architecture = await self._image_architecture(container)
            return await asyncio.to_thread(self._look_after_exit, container, code, text, architecture)
        except Exception:
            logger.exception("container %s: its end could not be explained", container.id[:12])
            return None

    def _look_after_exit(self, container: Container, code: int, text: str, architecture: str) -> Diagnosis | None:
        settings = self._settings(container)
        view = self._view(container, None, architecture)
        refused = container.path in text and "permission denied" in text.lower()  # by the script's interpreter
        found = diagnose_command(view, container.path) if code in _FILE_CODES or refused or not text else None
        return found or diagnose_output(text, code, view, settings)

    def _look(
        self, error: TareError, container: Container, exec_: ExecConfig | None, architecture: str
    ) -> Diagnosis | None:
        view = self._view(container, exec_, architecture)
        settings = self._settings(container, exec_)
        words = exec_.cmd if exec_ else (container.path,)
        if words and (isinstance(error, ExecutableError) or "exec: " in error.message):
            found = diagnose_command(view, words[0])
            if found is not None:
                return found
        return diagnose_message(error.message, view, settings)

    def _view(
        self, container: Container, exec_: ExecConfig | None, image_architecture: str, *, entering: bool = False
    ) -> View:
        """``entering``: as the process sees it while it executes the program, still with all its capabilities."""
        root = self._paths.rootfs(container.id)
        user = self._user(root, container, exec_)
        capabilities = self._capabilities(container)
        bypass = (entering or user.uid == 0) and "CAP_DAC_OVERRIDE" in capabilities
        identity = Identity(uid=user.uid, groups=tuple(user.groups), bypass=bypass)
        environment = dict(
            item.partition("=")[::2] for item in (*(container.config.env or ()), *(exec_.env if exec_ else ()))
        )
        return View(
            tree=Tree(root, _mounts(root, _points(container)), identity),
            environment=environment,
            cwd=(exec_.working_dir if exec_ else "") or container.config.working_dir or "/",
            architecture=self._facts.architecture,
            image_architecture=image_architecture,
        )

    def _user(self, root: Path, container: Container, exec_: ExecConfig | None) -> UserIds:
        wanted = (exec_.user if exec_ else "") or container.config.user
        try:
            return resolve_user(root, wanted, container.host_config.group_add or [])
        except InvalidArgument:
            return UserIds(uid=0, gid=0, groups=(0,), home="/")

    def _capabilities(self, container: Container) -> frozenset[str]:
        host = container.host_config
        return frozenset(
            effective(
                host.cap_add or (),
                host.cap_drop or (),
                privileged=host.privileged,
                available=self._facts.capabilities,
            )
        )

    def _settings(self, container: Container, exec_: ExecConfig | None = None) -> Settings:
        host, config = container.host_config, container.config
        return Settings(
            user=(exec_.user if exec_ else "") or config.user,
            working_directory=(exec_.working_dir if exec_ else "") or config.working_dir,
            memory=host.memory,
            pids=host.pids_limit or 0,
            read_only=host.readonly_rootfs,
            capabilities=frozenset(name.removeprefix("CAP_") for name in self._capabilities(container)),
        )

    async def _image_architecture(self, container: Container) -> str:
        try:
            return (await self._store.images.resolve(container.image_id)).config.architecture
        except TareError:
            return ""

    async def _last_words(self, container: Container) -> str:
        if container.host_config.log_config.type == "none":
            return ""
        data = bytearray()
        async with aclosing(self._logs.read(container, LogQuery(tail=_TAIL_LINES))) as batches:
            async for lines in batches:
                for _, _, line in lines:
                    data += line if line.endswith(b"\n") else line + b"\n"
                del data[:-_TAIL_BYTES]
        text = data.decode(errors="replace")
        return text.replace("\r\n", "\n") if container.config.tty else text


class Explaining:
    """See :meth:`Failures.explaining`."""

    def __init__(self, failures: Failures, container: Container, exec_: ExecConfig | None) -> None:
        self._failures = failures
        self._container = container
        self._exec = exec_

    async def __aenter__(self) -> None:
        return

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, TareError):
            await self._failures.explain(error, self._container, self._exec)
        elif isinstance(error, NotADirectoryError):  # the working directory, which is made before the process
            failure = InvalidArgument(f"Cannot mkdir: {self._container.config.working_dir} is not a directory")
            await self._failures.explain(failure, self._container, self._exec)
            raise failure from error


def explain_step(error: TareError, root: Path, request: ExecRequest, architecture: str) -> None:
    """Add the cause to the error of a build's command, whose root file system is mounted at ``root``. Blocks."""
    mounts = [Mount(destination=path, source=None, label=path, opaque=True) for path in _OPAQUE]
    mounts += [
        Mount(destination=bind.destination, source=bind.source, label=f"mount of {bind.source}")
        for bind in request.mounts
    ]
    mounts += [Mount(destination=memory.destination, source=None, label="tmpfs") for memory in request.tmpfs]
    environment = dict(item.partition("=")[::2] for item in request.env)
    view = View(tree=Tree(root, mounts), environment=environment, cwd=request.cwd, architecture=architecture)
    try:
        error.diagnosis = diagnose_command(view, request.argv[0])
    except Exception:
        logger.exception("the failure of %s could not be explained", request.argv[0])
    if error.diagnosis is not None:
        error.code = error.diagnosis.code
        error.hint = str(error.diagnosis)


def _of_hint(error: TareError) -> Diagnosis | None:
    """An error that knows its cause already, such as a port that is taken."""
    if not error.code:
        return None
    cause, _, fix = error.hint.partition("; ")
    subject = re.search(r"(?:\d+\.){3}\d+:\d+|\[[0-9a-f:]+\]:\d+", error.message)
    return Diagnosis(code=error.code, subject=subject[0] if subject else "", cause=cause, fix=fix)


def _points(container: Container) -> list[MountPoint]:
    """The container's mounts, with those of ``--tmpfs``, which are not listed among them."""
    listed = {point.destination for point in container.mounts}
    in_memory = (
        MountPoint(type="tmpfs", source="", destination=destination, mode=options)
        for destination, options in (container.host_config.tmpfs or {}).items()
        if destination not in listed
    )
    return [*container.mounts, *in_memory]


def _mounts(root: Path, points: Sequence[MountPoint]) -> list[Mount]:
    plain = Tree(root)
    mounts = [Mount(destination=path, source=None, label=path, opaque=True) for path in _OPAQUE]
    for point in points:
        look = plain.look(point.destination)
        destination = look.path if look.outcome is Outcome.FOUND else posixpath.normpath(point.destination)
        kind = {"volume": f"volume {point.name}", "bind": f"bind mount of {point.source}"}.get(point.type, point.type)
        in_memory = point.type == "tmpfs"
        mounts.append(
            Mount(
                destination=destination,
                source=None if in_memory or point.type == "image" else Path(point.source),
                label=kind,
                opaque=point.type == "image",
                noexec=in_memory and "exec" not in point.mode.split(","),
            )
        )
    return mounts
