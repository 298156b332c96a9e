"""Offers the Engine API on a unix socket."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from aiohttp import web

from tare.api.app import make_app
from tare.api.middleware import Requests
from tare.errors import Conflict, Unavailable

if TYPE_CHECKING:
    from tare.engine.engine import Engine

SOCKET_MODE = 0o660
"""Whoever may write to the socket is root on this machine; the group is the socket's owner's."""

FINISH_SECONDS = 10.0
"""How long a stopping server waits for operations whose clients are gone."""

HANDLER_SECONDS = 2.0
"""How long a stopping server waits for answers under way."""

BACKLOG = 128


class Server:
    """Serves the API of one engine on one socket."""

    def __init__(self, engine: Engine, path: Path) -> None:
        self._path = Path(path)
        self._identity: tuple[int, int] | None = None
        self._requests = Requests()
        self._runner = web.AppRunner(
            make_app(engine, self._requests),
            access_log=None,
            shutdown_timeout=HANDLER_SECONDS,
            handler_cancellation=True,
            auto_decompress=False,
        )

    async def start(self) -> None:
        """Bind the socket and serve.

        Raises Conflict when somebody serves on it already, Unavailable when it cannot be made.
        """
        try:
            sock = await asyncio.to_thread(bind_socket, self._path)
        except OSError as error:
            raise Unavailable(f"socket {self._path}: {error.strerror}", hint="choose another with --socket") from error
        self._identity = await asyncio.to_thread(_identity, self._path)
        await self._runner.setup()
        await web.SockSite(self._runner, sock, backlog=BACKLOG).start()

    async def stop(self) -> None:
        """Stop listening, end streams, let changes finish that are under way; remove the socket's file."""
        self._requests.end_streams()
        await self._runner.cleanup()
        await self._requests.finish(FINISH_SECONDS)
        if self._identity is not None:
            await asyncio.to_thread(_remove_own, self._path, self._identity)


def bind_socket(path: Path) -> socket.socket:
    """A listening unix socket at ``path``; one that a dead server left is replaced. Raises Conflict, OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_socket():
        if _answers(path):
            raise Conflict(f"socket {path}: another engine listens on it", hint="stop it or choose another --socket")
        path.unlink()
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(os.fspath(path))
        path.chmod(SOCKET_MODE)
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(os.fspath(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
    return True


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _remove_own(path: Path, identity: tuple[int, int]) -> None:
    # A successor may have put its own socket there already.
    with contextlib.suppress(FileNotFoundError):
        if _identity(path) == identity and stat.S_ISSOCK(path.stat().st_mode):
            path.unlink()
