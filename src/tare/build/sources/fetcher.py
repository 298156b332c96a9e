"""The builder's door to what is not on this host: trees and files by address."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tare.base.readers import Readable
from tare.base.shielding import to_end
from tare.build.ops.ssh import agent_socket
from tare.build.sources.addresses import GitAddress, RemoteAddress
from tare.build.sources.archive import is_archive, unpack_context
from tare.build.sources.git import GitAccess, GitCommit, GitRepositories
from tare.build.sources.http import HttpFile, HttpFiles
from tare.build.sources.limits import SourceLimits
from tare.build.sources.store import Facts, SourceStore
from tare.errors import Unavailable

_HEAD = 512  # bytes that tell an archive


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What a build may use to reach sources: its secrets, and agents or keys by id (``default`` is for git)."""

    secrets: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    ssh: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


class Sources:
    """Fetches sources and keeps them below ``directory``."""

    def __init__(self, directory: Path, limits: SourceLimits | None = None) -> None:
        self.limits = limits or SourceLimits()
        self._directory = directory
        self.store = SourceStore(directory / "entries", self.limits.cache)
        self._git = GitRepositories(self.store, self.limits)
        self._http = HttpFiles(self.store, self.limits)

    async def recover(self) -> None:
        """Delete what a killed engine left half made; call before the first build."""
        await self.store.recover()

    async def resolve_git(self, address: GitAddress, given: Credentials, *, keep_git_dir: bool = False) -> GitCommit:
        """The commit that the address means now. Raises NotFound, InvalidArgument, Unauthorized, Unavailable."""
        async with self._access(address, given) as access:
            return await self._git.resolve(address, access, keep_git_dir=keep_git_dir)

    @asynccontextmanager
    async def git(self, commit: GitCommit, given: Credentials) -> AsyncIterator[Path]:
        """The commit's tree, for the length of the block. Raises NotFound, Unauthorized, Unavailable, Exhausted."""
        async with AsyncExitStack() as stack:
            access = await stack.enter_async_context(self._access(commit.address, given))
            yield await stack.enter_async_context(self._git.open(commit, access))

    async def resolve_file(self, file: RemoteAddress, given: Credentials, checksum: str = "") -> HttpFile:
        """The http(s) file as it is now. Raises NotFound, Unauthorized, Forbidden, Unavailable, Exhausted."""
        assert not isinstance(file, GitAddress)
        return await self._http.resolve(file, given.secrets, checksum)

    @asynccontextmanager
    async def file(self, file: HttpFile, given: Credentials) -> AsyncIterator[tuple[Path, HttpFile]]:
        """The file's content, for the length of the block, and what is known about it now."""
        async with self._http.open(file, given.secrets) as opened:
            yield opened

    @asynccontextmanager
    async def place(
        self, address: RemoteAddress, given: Credentials, *, keep_git_dir: bool = False
    ) -> AsyncIterator[Path]:
        """What the address stands for: a repository's or an archive's tree, or a single file that is no archive.

        Raises as :meth:`git` and :meth:`file` do, and what :func:`unpack_context` says of a bad archive.
        """
        async with AsyncExitStack() as stack:
            if isinstance(address, GitAddress):
                keep = keep_git_dir or bool(address.keep_git_dir)
                commit = await self.resolve_git(address, given, keep_git_dir=keep)
                yield await stack.enter_async_context(self.git(commit, given))
                return
            found = await self.resolve_file(address, given)
            content, _ = await stack.enter_async_context(self.file(found, given))
            if not is_archive(await asyncio.to_thread(_head, content)):
                yield content
                return

            async def make(place: Path) -> Facts:
                await to_end(asyncio.to_thread((place / "content").mkdir))
                await self._unpack(content, place / "content", f"build context {address.shown}")
                return {}

            unpacked = await stack.enter_async_context(self.store.get(f"unpacked:{found.digest}", make))
            yield unpacked.content

    async def _unpack(self, file: Path, directory: Path, what: str) -> None:
        stop = threading.Event()

        def work() -> None:
            with file.open("rb") as stream:
                unpack_context(_Stoppable(stream, stop), directory, self.limits, what)

        task = asyncio.ensure_future(asyncio.to_thread(work))
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            stop.set()
            await asyncio.wait([task])
            raise

    @asynccontextmanager
    async def _access(self, address: GitAddress, given: Credentials) -> AsyncIterator[GitAccess]:
        """How git reaches the remote; the agent is there only where the remote speaks ssh."""
        http = address.remote.startswith(("http://", "https://", "git://"))
        await asyncio.to_thread(self._directory.mkdir, parents=True, exist_ok=True, mode=0o700)
        async with AsyncExitStack() as stack:
            agent = ""
            if not http and (paths := given.ssh.get("default")):
                place = self._directory / "ssh"
                agent = str(await stack.enter_async_context(agent_socket(paths, place, mode=0o600, uid=0, gid=0)))
            known = "" if http else str(self._directory / "known_hosts")
            yield GitAccess(secrets=given.secrets, agent=agent, known_hosts=known)


class _Stoppable:
    """A file whose reading ends when somebody says so: a thread cannot be cancelled."""

    def __init__(self, source: Readable, stop: threading.Event) -> None:
        self._source = source
        self._stop = stop

    def read(self, size: int = -1, /) -> bytes:
        if self._stop.is_set():
            raise Unavailable("the build was cancelled")
        return self._source.read(size)


def _head(file: Path) -> bytes:
    if not file.is_file():
        return b""
    with file.open("rb") as stream:
        return stream.read(_HEAD)
