"""The OCI runtime (runc, crun) by its command line. The only module that starts it, apart from conmon."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import shlex
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tare.base import process
from tare.base.shielding import finish
from tare.errors import Conflict, ExecutableError, InternalError, InvalidArgument, NotFound, TareError
from tare.kernel.cgroup_moves import hasten_moves
from tare.kernel.cgroups import detect, kill_cgroup
from tare.model.execution import Output
from tare.runtime.crun_words import docker_words

logger = logging.getLogger(__name__)

LOG_NAME = "oci.log"
CREATE_FAILED = "failed to create task for container: failed to create shim task: OCI runtime create failed: "
EXEC_FAILED = "OCI runtime exec failed: "
_NOT_FOUND = ("executable file not found", "no such file or directory", "not found in $path")
_NOT_EXECUTABLE = ("permission denied", "is a directory", "exec format error")
_REFUSED = (
    "sethostname: invalid",
    "error setting cgroup config",
    "unable to apply cgroup configuration",
    "sysctl ",
    "/proc/sys/",
)
"""What the runtime says when an option has a value that the kernel does not take."""
_MAX_LOG = 1 << 20


@dataclass(frozen=True, slots=True)
class OciRuntime:
    """A runtime program and the directory of its state (``--root``).

    ``view`` is a command that shows the program another host while it creates containers (see ``runtime/view.py``); it
    takes the program and its arguments. All else works without it.
    ``assigned`` are the containers, by id, that another runtime runs (``--runtime``); operations on them go there.
    """

    path: str
    root: Path
    view: tuple[str, ...] = ()
    assigned: dict[str, OciRuntime] = field(default_factory=dict, compare=False, repr=False)

    def of(self, container_id: str) -> OciRuntime:
        """The runtime that runs this container."""
        return self.assigned.get(container_id, self)

    @property
    def name(self) -> str:
        """The program's name without its directory."""
        return Path(self.path).name

    @property
    def looks_as_root(self) -> bool:
        """Whether it looks for the program, and makes mount points, with more rights than the process will have."""
        return self.name == "crun"

    def at(self, root: Path) -> OciRuntime:
        """The same program with its state somewhere else."""
        return replace(self, root=root)

    @property
    def creating(self) -> list[str]:
        """The command that creates containers, without options."""
        return [*self.view, self.path]

    def options(self, log: Path | None = None) -> list[str]:
        """The global options, to stand before the command."""
        options = ["--root", str(self.root), "--log-format", "json"]
        return options if log is None else [*options, "--log", str(log)]

    async def version(self) -> str:
        """The first line of ``--version``. Raises Unavailable when the program is missing."""
        result = await process.run([self.path, "--version"], timeout=10)
        return result.stdout.decode(errors="replace").partition("\n")[0]

    async def start(self, container_id: str) -> None:
        """Let the created container's process run."""
        await self._call("start", container_id)

    async def kill(self, container_id: str, signal: int, *, everything: bool = False) -> None:
        """Send ``signal`` to the container's first process, or to all of its processes."""
        await self._call("kill", *(["--all"] if everything else []), container_id, str(signal))

    async def delete(self, container_id: str, *, force: bool = False) -> None:
        """Remove the container's state and cgroups; with ``force`` kill it first. Unknown containers are fine."""
        try:
            await self._call("delete", *(["--force"] if force else []), container_id)
        except NotFound:
            return

    async def pause(self, container_id: str) -> None:
        """Freeze all processes of the container."""
        await self._call("pause", container_id)

    async def resume(self, container_id: str) -> None:
        """Undo ``pause``."""
        await self._call("resume", container_id)

    async def state(self, container_id: str) -> dict[str, Any]:
        """The runtime-spec state: ``status`` (created, running, paused, stopped), ``pid``, … Raises NotFound."""
        result = await self._call("state", container_id)
        state: dict[str, Any] = json.loads(result.stdout)
        return state

    async def update(self, container_id: str, resources: dict[str, Any]) -> None:
        """Change the limits of a created or running container: runtime-spec ``resources``, only what is to change."""
        await self._call("update", "--resources", "-", container_id, stdin=json.dumps(resources).encode())

    async def list_ids(self) -> list[str]:
        """The ids of all containers under ``root``."""
        try:
            return await asyncio.to_thread(
                lambda: sorted(child.name for child in self.root.iterdir() if child.is_dir())
            )
        except FileNotFoundError:
            return []

    async def _call(self, command: str, *arguments: str, stdin: bytes | None = None) -> process.Completed:
        runtime = next((self.assigned[word] for word in arguments if word in self.assigned), self)
        argv = [runtime.path, *runtime.options(), command, *arguments]
        result = await process.run(argv, stdin=stdin, timeout=60)
        if result.returncode != 0:
            raise call_error(command, arguments, result.error_text)
        return result

    async def spawn_exec(
        self, container_id: str, *, process_spec: Path, pid_file: Path, log: Path
    ) -> asyncio.subprocess.Process:
        """Start ``exec`` in the foreground: it ends with its process, whose exit code it has.

        Its standard output carries both output streams; ``pid_file`` appears when the process runs.
        """
        options = ["--process", str(process_spec), "--pid-file", str(pid_file)]
        asyncio.get_running_loop().run_in_executor(None, hasten_moves)
        return await asyncio.create_subprocess_exec(
            *[self.path, *self.options(log), "exec", *options, container_id],
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )

    async def run_once(self, bundle: Path, container_id: str, output: Output) -> int:
        """Create, run and delete a container whose spec is ``bundle/config.json``; returns its exit code.

        ``output`` receives its standard output and error as they come. Cancelling kills and deletes it. Raises
        ExecutableError and InternalError.
        """
        log = bundle / LOG_NAME
        argv = [*self.creating, *self.options(log), "run", "--bundle", str(bundle), container_id]
        logger.debug("run %s", shlex.join(argv))
        asyncio.get_running_loop().run_in_executor(None, hasten_moves)
        child = await asyncio.create_subprocess_exec(
            *argv, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        if child.stdout is None or child.stderr is None:
            raise InternalError(f"{self.name}: no pipes")

        async def pump(stream: asyncio.StreamReader, name: str) -> bytes:
            last = b""
            while data := await stream.read(65536):
                output("stdout" if name == "stdout" else "stderr", data)
                last = (last + data)[-8192:]
            return last

        try:
            _, tail = await asyncio.gather(pump(child.stdout, "stdout"), pump(child.stderr, "stderr"))
            code = await child.wait()
        except BaseException:
            await finish(self._abandon(child, container_id, bundle), what=f"end container {container_id}")
            raise
        if code != 0 and (message := await asyncio.to_thread(last_error, log)):
            await finish(self.delete(container_id, force=True), what=f"delete container {container_id}")
            command = await asyncio.to_thread(command_of, bundle)
            raise execution_error(CREATE_FAILED, message, command=command, verb=f"{self.name} create failed")
        if code < 0:
            await finish(self.delete(container_id, force=True), what=f"delete container {container_id}")
            raise InternalError(f"{self.name} run {container_id} was killed by signal {-code}: {tail!r}")
        return code

    async def _abandon(self, child: asyncio.subprocess.Process, container_id: str, bundle: Path) -> None:
        if child.returncode is None:
            child.kill()
        await self.delete(container_id, force=True)
        # crun notes a container only after it has started it: one that was killed in between knows of none
        await asyncio.to_thread(_end_cgroup, bundle)
        await child.wait()  # comes back only when the container has closed its pipes, too


def _end_cgroup(bundle: Path) -> None:
    """Kill what is left in the cgroup of a bundle's container."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        kill_cgroup(detect(), str(json.loads((bundle / "config.json").read_bytes())["linux"]["cgroupsPath"]))


def last_error(log: Path) -> str:
    """The last error in a runtime's JSON log; empty when there is none or no log."""
    try:
        with log.open("rb") as stream:
            return error_in(stream.read(_MAX_LOG).decode(errors="replace"))
    except FileNotFoundError:
        return ""


def error_in(text: str) -> str:
    """The message of the last error line in a runtime's JSON log text."""
    found = ""
    for line in text.splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and entry.get("level") in ("error", "fatal"):
            found = str(entry.get("msg", ""))
    return found


def command_of(bundle: Path) -> str:
    """What a bundle's container was to execute, without arguments; empty when that cannot be read."""
    try:
        return str(json.loads((bundle / "config.json").read_bytes())["process"]["args"][0])
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        return ""


def execution_error(prefix: str, message: str, *, command: str = "", verb: str = "create failed") -> TareError:
    """The error for a container or exec that could not be started, in Docker's words.

    ``command`` is what was to be executed; ``verb`` says what failed, where the runtime does not.
    """
    told = docker_words(message, command=command, verb=verb)
    text = f"{prefix}{told}"
    lowered = told.lower()
    if "exec" in lowered and "mount" not in lowered:
        if any(words in lowered for words in _NOT_FOUND):
            return ExecutableError(text, exit_code=127)
        if any(words in lowered for words in _NOT_EXECUTABLE):
            return ExecutableError(text, exit_code=126)
    if any(words in lowered for words in _REFUSED):
        return InvalidArgument(text, code="runtime-refused")
    return InternalError(text)


def call_error(command: str, arguments: tuple[str, ...], text: str) -> TareError:
    """The error for a failed runtime command other than create and exec."""
    message = error_in(text) or text or "no message"
    lowered = message.lower()
    subject = f"runtime {command} {' '.join(arguments)}: {message}"
    if "does not exist" in lowered or "no such file or directory" in lowered:
        return NotFound(subject)
    if any(words in lowered for words in ("not running", "stopped", "cannot start", "not paused", "already")):
        return Conflict(subject)
    return InternalError(subject)
