"""What builds keep beside the results of steps: cache mounts, file hashes, fetched sources, failed steps."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tare.build.cache_ledger import CACHE_MOUNT, GIT_SOURCE, ID_LENGTH, LOCAL_SOURCE, REGULAR, CacheRecord
from tare.build.ops.workbench import Workbench
from tare.errors import NotFound


@dataclass(frozen=True, slots=True)
class Other:
    """A record that is no object of the store; ``remove`` deletes it and tells whether it went."""

    record: CacheRecord
    remove: Callable[[], Awaitable[bool]]


async def other_records(bench: Workbench) -> list[Other]:
    """All of them."""
    found = [*await _mounts(bench), *await _failed_steps(bench)]
    for single in (await _hashes(bench), await _sources(bench)):
        if single is not None:
            found.append(single)
    return found


async def _mounts(bench: Workbench) -> list[Other]:
    def removing(name: str) -> Callable[[], Awaitable[bool]]:
        return lambda: bench.mounts.remove(name)

    return [
        Other(
            CacheRecord(
                id=_identifier(mount.name),
                type=CACHE_MOUNT,
                description=f"cache mount {mount.id}",
                size=mount.size,
                created=mount.created,
                last_used=mount.last_used,
                uses=mount.uses,
                in_use=mount.in_use,
                mutable=True,
            ),
            removing(mount.name),
        )
        for mount in await bench.mounts.list()
    ]


async def _failed_steps(bench: Workbench) -> list[Other]:
    def removing(reference: str) -> Callable[[], Awaitable[bool]]:
        async def remove() -> bool:
            with contextlib.suppress(NotFound):
                await bench.kept.remove(reference)
            return True

        return remove

    return [
        Other(
            CacheRecord(
                id=_identifier(step.reference + step.part.key),
                type=REGULAR,
                description=f"failed step {step.reference}: {step.text}",
                size=step.bytes,
                created=step.created,
                last_used=step.created,
            ),
            removing(step.reference),
        )
        for step in await bench.kept.list()
    ]


async def _hashes(bench: Workbench) -> Other | None:
    """The hashes of context files, and the manifests that explain content keys."""
    facts = await asyncio.to_thread(bench.hashes.facts)
    size = await asyncio.to_thread(bench.manifests.usage)
    if facts is None and not size:
        return None
    last_used = facts.st_mtime if facts is not None else await asyncio.to_thread(bench.manifests.written)
    record = CacheRecord(
        id=_identifier("context-hashes"),
        type=LOCAL_SOURCE,
        description="hashes of files of build contexts",
        size=size + (facts.st_blocks * 512 if facts is not None else 0),
        created=last_used,
        last_used=last_used,
        mutable=True,
    )

    async def remove() -> bool:
        await asyncio.to_thread(bench.hashes.clear)
        await asyncio.to_thread(bench.manifests.clear)
        return True

    return Other(record, remove)


async def _sources(bench: Workbench) -> Other | None:
    """What was fetched from git and http servers."""
    store = bench.sources.store
    size = await store.size()
    if not size:
        return None
    last_used = await store.last_used() or time.time()
    record = CacheRecord(
        id=_identifier("sources"),
        type=GIT_SOURCE,
        description="files and repositories that were fetched",
        size=size,
        created=last_used,
        last_used=last_used,
        mutable=True,
    )

    async def remove() -> bool:
        return await store.trim(0) > 0

    return Other(record, remove)


def _identifier(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:ID_LENGTH]
