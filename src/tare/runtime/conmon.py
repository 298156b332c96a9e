"""conmon, the supervisor of one container or exec: its arguments and the pipe on which it reports.

Protocol (conmon 2.x): it forks to the background, runs the runtime, and writes one JSON line per event to the
descriptor in ``_OCI_SYNCPIPE``: ``{"data": pid}``, or ``{"data": -1, "message": …}`` when the runtime failed, and
for an exec later ``{"data": exit code}``. With ``--exec-attach`` it also writes a line to ``_OCI_ATTACHPIPE`` when
its attach socket listens, and waits for a byte on ``_OCI_STARTPIPE`` before it runs the runtime.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import logging
import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from tare.errors import InternalError, InvalidArgument, Unavailable
from tare.kernel.cgroup_moves import hasten_moves
from tare.runtime.log_options import JournalEntry
from tare.runtime.oci_runtime import LOG_NAME, OciRuntime

logger = logging.getLogger(__name__)

CONMON_PID = "conmon.pid"
CONTAINER_PID = "pid"
ERROR_NAME = "conmon.err"
MESSAGE_LIMIT = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ConmonRequest:
    """One container or exec to supervise. ``directory`` is conmon's bundle; sockets, pid and exit files go there."""

    container_id: str
    exit_name: str
    directory: Path
    log_path: Path | None = None
    journal: JournalEntry | None = None
    terminal: bool = False
    open_stdin: bool = False
    leave_stdin_open: bool = False
    process_spec: Path | None = None
    attach: bool = False


def arguments(program: str, runtime: OciRuntime, request: ConmonRequest) -> list[str]:
    """conmon's command line. Raises InvalidArgument for a log path that conmon cannot be told."""
    directory = request.directory
    runtime = runtime.of(request.container_id)
    log, journal = _log_options(request)
    argv = [program, "--api-version", "1", "--cid", request.container_id, "--cuuid", request.exit_name]
    # conmon takes one program: what stands in front of the runtime is that, and the runtime its first argument.
    program_name, *further = [runtime.path] if request.process_spec is not None else runtime.creating
    argv += ["--runtime", program_name, "--bundle", str(directory), "--full-attach", "--no-sync-log"]
    argv += ["--container-pidfile", str(directory / CONTAINER_PID), "--conmon-pidfile", str(directory / CONMON_PID)]
    argv += ["--exit-dir", str(directory), "--log-path", log, "--log-level", "error", *journal]
    for option in [*further, *runtime.options(directory / LOG_NAME)]:
        argv += ["--runtime-arg", option]
    flags = {
        "--terminal": request.terminal,
        "--stdin": request.open_stdin,
        "--leave-stdin-open": request.leave_stdin_open,
        "--exec-attach": request.attach,
    }
    argv += [flag for flag, wanted in flags.items() if wanted]
    if request.process_spec is not None:
        argv += ["--exec", "--exec-process-spec", str(request.process_spec)]
    return argv


def _log_options(request: ConmonRequest) -> tuple[str, list[str]]:
    if request.journal is not None:
        return "journald", ["--name", request.journal.name, "--log-tag", request.journal.tag]
    if request.log_path is None:
        return "none", []
    if ":" in str(request.log_path):
        raise InvalidArgument(f"log path {request.log_path} has a colon", hint="choose another data root")
    return f"k8s-file:{request.log_path}", []


def reopen_log(directory: Path) -> bool:
    """Tell the conmon of ``directory`` to write to a new file; False when it has ended.

    It opens ``<log>.tmp``, emptied, and renames it to the log's name (control message 2; 1 is the terminal's size).
    """
    try:
        fd = os.open(directory / "ctl", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        if error.errno == errno.ENXIO:
            return False
        raise
    try:
        os.write(fd, b"2 0 0\n")
    finally:
        os.close(fd)
    return True


@dataclass(frozen=True, slots=True)
class Report:
    """One line from conmon: a process id or exit code (negative: failure), and the runtime's words."""

    data: int
    message: str = ""


class Launch:
    """A conmon being started; a context manager that closes the pipes (conmon itself lives on)."""

    def __init__(self, argv: list[str], directory: Path, *, attach: bool = False) -> None:
        self._argv = argv
        self._directory = directory
        self._attach = attach
        self._stack = contextlib.ExitStack()
        self._sync: asyncio.StreamReader | None = None
        self._attach_reader: asyncio.StreamReader | None = None
        self._start_fd = -1
        self._pipes: set[int] = set()

    async def __aenter__(self) -> Launch:
        try:
            await self._spawn()
        except BaseException:
            self._stack.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all pipes."""
        self._stack.close()

    async def _spawn(self) -> None:
        # TZ: conmon stamps its log in local time. Nothing else of our environment is its or the runtime's business.
        env = {"PATH": os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"), "TZ": "UTC"}
        with contextlib.ExitStack() as theirs:
            sync_fd = await self._reading_pipe("_sync", theirs)
            fds = [sync_fd]
            env["_OCI_SYNCPIPE"] = str(sync_fd)
            if self._attach:
                attach_fd = await self._reading_pipe("_attach_reader", theirs)
                start_fd, self._start_fd = os.pipe()
                theirs.callback(os.close, start_fd)
                self._pipes.add(os.fstat(start_fd).st_ino)
                self._stack.callback(self._close_start)
                fds += [attach_fd, start_fd]
                env["_OCI_ATTACHPIPE"], env["_OCI_STARTPIPE"] = str(attach_fd), str(start_fd)
                os.write(self._start_fd, b"\0")
            errors = theirs.enter_context((self._directory / ERROR_NAME).open("wb"))
            logger.debug("start %s", shlex.join(self._argv))
            asyncio.get_running_loop().run_in_executor(None, hasten_moves)
            try:
                child = await asyncio.create_subprocess_exec(
                    *self._argv,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.DEVNULL,
                    stderr=errors,
                    pass_fds=fds,
                    env=env,
                    cwd=self._directory,
                    start_new_session=True,
                )
            except FileNotFoundError as error:
                raise Unavailable(f"{self._argv[0]}: program not found", hint="install the package conmon") from error
        # the foreground process ends as soon as conmon is in the background and its pid file is written
        if await child.wait() != 0:
            raise InternalError(f"conmon failed: {self._error_text()}")

    async def _reading_pipe(self, attribute: str, theirs: contextlib.ExitStack) -> int:
        ours, fd = os.pipe()
        theirs.callback(os.close, fd)
        self._pipes.add(os.fstat(fd).st_ino)
        reader = asyncio.StreamReader(limit=MESSAGE_LIMIT)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(ours, "rb", buffering=0)
        )
        self._stack.callback(transport.close)
        setattr(self, attribute, reader)
        return fd

    @property
    def pipes(self) -> frozenset[int]:
        """Inode numbers of the pipes that conmon was given."""
        return frozenset(self._pipes)

    def _close_start(self) -> None:
        if self._start_fd >= 0:
            os.close(self._start_fd)
            self._start_fd = -1

    def _error_text(self) -> str:
        with contextlib.suppress(OSError):
            return (self._directory / ERROR_NAME).read_bytes()[-4096:].decode(errors="replace").strip()
        return ""

    async def report(self) -> Report:
        """conmon's next line. Raises InternalError when it ended without one."""
        return await self._read(self._sync)

    async def attach_ready(self) -> None:
        """Return when the attach socket of an exec listens."""
        await self._read(self._attach_reader)

    def release(self) -> None:
        """Let an exec that waits for its client run."""
        os.write(self._start_fd, b"\0")
        self._close_start()

    async def _read(self, reader: asyncio.StreamReader | None) -> Report:
        if reader is None:
            raise InternalError("conmon has not been started")
        line = await reader.readline()
        if not line:
            raise InternalError(f"conmon ended without a report: {self._error_text()}")
        try:
            # conmon escapes control characters in a way that JSON decoders accept only when they are lenient
            document = json.loads(line, strict=False)
            return Report(int(document["data"]), str(document.get("message") or ""))
        except (ValueError, KeyError, TypeError) as error:
            raise InternalError(f"conmon reported something unexpected: {line[:200]!r}") from error
