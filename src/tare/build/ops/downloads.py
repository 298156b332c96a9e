"""Remote sources of ADD: what they are now is part of the key; they are fetched only when the step is made."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tare.build.graph import CopyStep
from tare.build.ops.operation import Inputs, Settings, located
from tare.build.ops.select import Tree
from tare.build.sources.addresses import parse_git, parse_http, with_checksum
from tare.build.sources.fetcher import Credentials, Sources
from tare.build.sources.git import GitCommit
from tare.build.sources.http import HttpFile
from tare.errors import TareError


@dataclass(frozen=True, slots=True)
class Download:
    """A remote source as it is now; equal keys stand for equal content."""

    source: HttpFile | GitCommit

    @property
    def key(self) -> str:
        """The content's digest, or the commit and what is taken of it."""
        return self.source.digest if isinstance(self.source, HttpFile) else self.source.key


@dataclass(frozen=True, slots=True)
class FetchedFile:
    """A file that is here now; ``mtime`` in seconds is the server's, 0 where it does not tell."""

    name: str
    file: Path
    size: int
    mtime: int


@dataclass(frozen=True, slots=True)
class FetchedTree:
    """A repository's tree."""

    tree: Tree


Fetched = FetchedFile | FetchedTree


async def find_downloads(step: CopyStep, sources: Sources, settings: Settings) -> list[Download]:
    """What the step's remote sources are now, asked for at the same time; errors carry the Dockerfile's line."""
    if not step.downloads:
        return []
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_find(text, step, sources, settings)) for text in step.downloads]
    except BaseExceptionGroup as errors:
        first = errors.exceptions[0]
        raise (located(first, step.place) if isinstance(first, TareError) else first) from errors
    return [task.result() for task in tasks]


async def _find(text: str, step: CopyStep, sources: Sources, settings: Settings) -> Download:
    given = _credentials(settings)
    git = parse_git(text)
    if git is None:
        return Download(await sources.resolve_file(parse_http(text), given, step.checksum))
    address = with_checksum(git, step.checksum)
    keep = step.keep_git_dir or bool(address.keep_git_dir)
    return Download(await sources.resolve_git(address, given, keep_git_dir=keep))


@asynccontextmanager
async def fetched(step: CopyStep, downloads: Sequence[Download], inputs: Inputs) -> AsyncIterator[list[Fetched]]:
    """The downloads as files and trees on this host, for the length of the block; errors carry the line."""
    sources, given = inputs.bench.sources, _credentials(inputs.settings)
    found: list[Fetched] = []
    async with AsyncExitStack() as stack:
        for download in downloads:
            source = download.source
            try:
                if isinstance(source, GitCommit):
                    place = await stack.enter_async_context(sources.git(source, given))
                    found.append(FetchedTree(Tree(place, keep_owner=False)))
                    continue
                file, known = await stack.enter_async_context(sources.file(source, given))
            except TareError as error:
                raise located(error, step.place) from error
            size = (await asyncio.to_thread(file.stat)).st_size
            found.append(FetchedFile(source.name, file, size, known.mtime))
        yield found


def _credentials(settings: Settings) -> Credentials:
    return Credentials(secrets=settings.secrets, ssh=settings.ssh)
