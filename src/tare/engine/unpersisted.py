"""What a container would lose: data in its writable layer, and the volume that would have kept it."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

from tare.diagnosis.losses import Loss, find_losses
from tare.engine.records import ContainerRecords
from tare.engine.requests import Unpersisted, UnpersistedData
from tare.errors import TareError
from tare.model.container import Container
from tare.store.store import Store

ENTRIES = 200_000
"""Directory entries that are looked at, when no fewer are asked for."""


class UnpersistedService:
    """Finds files that look like data or logs and are in no volume."""

    def __init__(self, *, records: ContainerRecords, store: Store) -> None:
        self._records = records
        self._store = store

    async def find(self, reference: str, *, entries: int = 0) -> Unpersisted:
        """Look through a container's writable layer, at up to ``entries`` directory entries. Raises NotFound."""
        container = await self._records.get(reference)
        upper = await self._store.snapshots.upper_path(container.id)
        found = await asyncio.to_thread(
            find_losses,
            upper,
            await self._layers(container),
            working_directory=container.config.working_dir,
            limit=min(entries, ENTRIES) if entries > 0 else ENTRIES,
        )
        names = _volume_names(container.name, found.losses)
        data = [
            UnpersistedData(
                path=loss.path, kind=loss.kind, size=loss.size, files=loss.files, option=_option(loss, name)
            )
            for loss, name in zip(found.losses, names, strict=True)
        ]
        return Unpersisted(
            container=container.name,
            data=data,
            auto_remove=container.host_config.auto_remove,
            complete=found.complete,
        )

    async def _layers(self, container: Container) -> list[Path]:
        """The image's unpacked layers, to tell what the container has changed; none when the image has gone."""
        try:
            image = await self._store.images.resolve(container.image_id)
            lowers = [await self._store.snapshots.ensure_layer(diff_id) for diff_id in image.diff_ids]
            return [await self._store.snapshots.upper_path(lower) for lower in lowers]
        except TareError:
            return []


def _volume_names(container: str, losses: list[Loss]) -> list[str]:
    """A name for each volume: after the container, and after the directory where there are several."""
    names: list[str] = []
    several = sum(loss.kind != "logs" for loss in losses) > 1
    for loss in losses:
        word = re.sub(r"[^a-zA-Z0-9_.-]", "", loss.path.rpartition("/")[2]).lower().strip(".-_")
        last = "logs" if loss.kind == "logs" else word if several and word else "data"
        name = f"{container}-{last}"
        names.append(name if name not in names else f"{name}-{len(names) + 1}")
    return names


def _option(loss: Loss, name: str) -> str:
    """The option that would have kept it. A lone file among a program's own is not a volume's: it is bound."""
    if loss.alone:
        return f'-v "$PWD/{loss.path.rpartition("/")[2]}:{loss.path}"'
    return f"-v {name}:{loss.path}"
