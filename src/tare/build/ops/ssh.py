"""SSH agents for RUN steps: a socket of the step's own that leads to the user's agent, or to one with given keys."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import stat
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from tare.base.process import run
from tare.base.shielding import finish
from tare.errors import InvalidArgument, NotFound, Unavailable
from tare.model import new_id

SOCKET, AGENT = "socket", "agent"
_CHUNK = 1 << 16
_KEY_SECONDS = 20.0


@asynccontextmanager
async def agent_socket(paths: Sequence[str], directory: Path, *, mode: int, uid: int, gid: int) -> AsyncIterator[Path]:
    """A socket with this mode and owner in ``directory`` that answers as an agent, for the length of the block.

    ``paths`` are one agent's socket on the host, or files with private keys. Raises NotFound, InvalidArgument for a key
    that cannot be read, Unavailable when there is no ``ssh-agent`` program.
    """
    place = directory / new_id()[:16]
    await asyncio.to_thread(place.mkdir, parents=True)
    # addresses of sockets are short, directories may be long: go through a descriptor of the directory
    fd = os.open(place, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    short = f"/proc/self/fd/{fd}"
    try:
        async with _agent(paths, place, short) as agent, _proxy(f"{short}/{SOCKET}", agent):
            await asyncio.to_thread(_hand_over, place / SOCKET, mode, uid, gid)
            yield place / SOCKET
    finally:
        os.close(fd)
        await finish(asyncio.to_thread(shutil.rmtree, place), what=f"remove {place}")


def _hand_over(path: Path, mode: int, uid: int, gid: int) -> None:
    path.chmod(mode)
    os.chown(path, uid, gid)


@asynccontextmanager
async def _agent(paths: Sequence[str], place: Path, short: str) -> AsyncIterator[str]:
    """Where the agent listens."""
    kinds = [await asyncio.to_thread(_kind, path) for path in paths]
    if kinds == ["socket"]:
        yield paths[0]
        return
    for path, kind in zip(paths, kinds, strict=True):
        if kind != "file":
            raise InvalidArgument(f"ssh: {path} is a {kind}", hint="give one agent's socket, or files with keys")
    async with _own_agent(place) as environment:
        for path in paths:
            done = await run(["ssh-add", "-q", path], env=environment, cwd=str(place), timeout=_KEY_SECONDS)
            if done.returncode:
                raise InvalidArgument(
                    f"ssh: the key {path} cannot be used: {done.error_text}",
                    hint="keys with a passphrase belong into an agent: --ssh default",
                )
        yield f"{short}/{AGENT}"


def _kind(path: str) -> str:
    try:
        mode = Path(path).stat().st_mode
    except OSError as error:
        raise NotFound(f"ssh: {path}: {error.strerror}", hint="name a socket or a private key") from error
    return "socket" if stat.S_ISSOCK(mode) else "file" if stat.S_ISREG(mode) else "directory or device"


@asynccontextmanager
async def _own_agent(place: Path) -> AsyncIterator[dict[str, str]]:
    """An ``ssh-agent`` without keys that ends with this process; yields the environment for ``ssh-add``.

    Where the program belongs to a group of its own (set-group-ID), it would lose the signal at this process's death
    (prctl(2), PR_SET_PDEATHSIG) along with the change of group: it gets no new privileges.
    """
    environment = {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "SSH_AUTH_SOCK": AGENT, "SSH_ASKPASS": "/bin/false"}
    try:
        process = await asyncio.create_subprocess_exec(
            *("setpriv", "--no-new-privs", "--pdeathsig", "TERM", "ssh-agent", "-D", "-a", AGENT),
            cwd=place,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=environment,
        )
    except FileNotFoundError as error:
        raise Unavailable(
            "ssh-agent: program not found", hint="install openssh-client", code="program-missing"
        ) from error
    try:
        assert process.stdout is not None
        if not await process.stdout.readline():  # it tells its address once it listens
            raise Unavailable("ssh-agent could not start", hint="run it by hand to see why")
        yield environment
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await finish(process.wait(), what="end ssh-agent")


@asynccontextmanager
async def _proxy(path: str, agent: str) -> AsyncIterator[None]:
    """Listen at ``path``, lead every connection to ``agent``."""
    connections: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connections.add(task)
        try:
            await _join(reader, writer, agent)
        finally:
            connections.discard(task)

    listener = socket.socket(socket.AF_UNIX)
    try:
        listener.bind(path)
        server = await asyncio.start_unix_server(serve, sock=listener)
    except BaseException:
        listener.close()
        raise
    try:
        yield
    finally:
        server.close()
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)


async def _join(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, agent: str) -> None:
    try:
        agent_reader, agent_writer = await asyncio.open_unix_connection(agent)
    except OSError:
        writer.close()  # the step sees an agent that hangs up
        return
    pumps = [asyncio.create_task(_pump(reader, agent_writer)), asyncio.create_task(_pump(agent_reader, writer))]
    try:
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
        for end in (writer, agent_writer):
            end.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()
