"""``rmi`` and ``image prune``: names go, and images with their last name, as Docker decides it."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from tare.engine.events import Events
from tare.engine.image_filters import select_for_prune
from tare.engine.image_parents import Family
from tare.engine.image_platforms import find
from tare.engine.records import ContainerRecords
from tare.engine.requests import Filters
from tare.errors import Conflict, InvalidArgument, NotFound
from tare.model import ContainerStatus, Platform, Reference, short_id
from tare.store.images import Image
from tare.store.store import Store

Records = list[dict[str, str]]
"""What went: ``Untagged`` names, ``Deleted`` images and layers (API ImageDeleteResponseItem)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageUser:
    """A container that is made of an image, or has it mounted."""

    id: str
    name: str
    running: bool


class ImageRemoval:
    """Takes names away from images and removes images."""

    def __init__(
        self,
        *,
        store: Store,
        records: ContainerRecords,
        events: Events,
        settle: Callable[[], Awaitable[None]],
    ) -> None:
        self._store = store
        self._records = records
        self._events = events
        self._settle = settle

    async def remove(
        self, reference: str, *, force: bool = False, prune: bool = True, platforms: Sequence[Platform] = ()
    ) -> Records:
        """Take a name away, or with an ID all names, and remove the image with its last one.

        A name that stands for several platforms goes from all images, or from those for ``platforms``. ``prune``
        removes parents as well, as far as they have no name and no user. A container keeps its image: then only the
        names go. Raises NotFound, and Conflict: without ``force`` for a container that uses its last
        name, or an ID with several names; always for the ID of an image that runs, or that others come from.
        """
        image = await self._store.images.resolve(reference, damaged=True)
        if str(image.id).removeprefix("sha256:").startswith(reference.removeprefix("sha256:")):
            if platforms:
                raise InvalidArgument(f"{reference}: an ID is of one platform", hint="leave the platforms out")
            return await self._remove_image(image, force=force, prune=prune)
        name = Reference.parse(reference)
        if platforms:
            several = [await find(self._store.images, reference, platform) for platform in platforms]
        else:
            several = await self._store.images.named(name, damaged=True) or [image]
        for one in several:
            users = await self.users(one)
            if users and not force and _is_single(_names(one)):
                raise _in_use(one, reference, users[0])
        records: Records = []
        for one in {one.id: one for one in several}.values():
            found = await self._remove_name(one, name, force=force, prune=prune)
            records.extend(record for record in found if record not in records)  # the name is the same
        return records

    async def _remove_image(self, image: Image, *, force: bool, prune: bool, family: Family | None = None) -> Records:
        records: Records = []
        family = family or Family(await self._store.images.related(image))
        await self._check(image, family, force=force, several=not _is_single(_names(image)))
        await self._untag(image, _names(image), records)
        image = await self._store.images.get(image.id, damaged=True)
        await self._delete(image, family, records, prune=prune, quiet=False, force=force)
        return records

    async def _remove_name(
        self, image: Image, name: Reference, *, force: bool, prune: bool, family: Family | None = None
    ) -> Records:
        records: Records = []
        await self._untag(image, _going(image, name), records)
        image = await self._store.images.get(image.id, damaged=True)
        if not _names(image):
            family = family or Family(await self._store.images.related(image))
            await self._delete(image, family, records, prune=prune, quiet=True, force=force)
        return records

    async def prune(self, filters: Filters) -> tuple[Records, int]:
        """Remove images without a name that nothing uses, with filter ``dangling=false`` all unused ones.

        Further filters: ``until``, ``label``, ``label!``. Returns the records of :meth:`remove` and the bytes of the
        layers that went. Raises InvalidArgument.
        """
        records: Records = []
        before = await self._store.layers.sizes()
        doomed: set[str] = set()
        images = await self._store.images.list()
        family = Family(images)
        for image in select_for_prune(images, filters, time.time(), family.parents):
            if await self.users(image):
                continue
            try:
                if len(names := _names(image)) > 1:
                    for name in names:
                        if name in _names(await self._store.images.get(image.id)):  # digests go with their last tag
                            records.extend(await self._remove_name(image, name, force=False, prune=True, family=family))
                else:
                    records.extend(await self._remove_image(image, force=False, prune=True, family=family))
            except (Conflict, NotFound):
                continue  # a container took it meanwhile, or somebody removed it
            doomed.update(image.config.rootfs.diff_ids)
        gone = doomed - (await self._store.layers.sizes()).keys()
        freed = sum(before.get(diff_id, 0) for diff_id in gone)
        self._events.publish("image", "prune", "", {"reclaimed": str(freed)})
        return records, freed

    async def users(self, image: Image) -> list[ImageUser]:
        """The containers that are made of the image, or have it mounted."""
        wanted = str(image.id)
        return [
            ImageUser(id=item.id, name=item.name, running=_runs(item.state.status))
            for item in await self._records.list()
            if item.image_id == wanted or any(detail.image == wanted for detail in item.mount_details.values())
        ]

    async def _untag(self, image: Image, names: Iterable[Reference], records: Records) -> None:
        for name in names:
            await self._store.images.untag(name, image.id)
            records.append({"Untagged": name.familiar()})
            attributes = {**(image.config.config.labels or {}), "name": str(image.id)}
            self._events.publish("image", "untag", str(image.id), attributes)

    async def _check(self, image: Image, family: Family, *, force: bool, several: bool) -> None:
        """Raises Conflict in Docker's order of reasons; the last two only where nothing is forced."""
        shown = short_id(str(image.id))
        if image.id in family.parents:
            raise Conflict(
                f"conflict: unable to delete {shown} (cannot be forced) - image has dependent child images",
                hint="remove the images that were committed from it, or take its names away one by one",
                code="image-has-children",
            )
        users = await self.users(image)
        if running := [user for user in users if user.running]:
            raise Conflict(
                f"conflict: unable to delete {shown} (cannot be forced) - image is being used by running container "
                f"{short_id(running[0].id)}",
                hint=f"stop and remove {running[0].name} first",
                code="image-in-use",
            )
        if force:
            return
        if several and _names(image):
            raise Conflict(
                f"conflict: unable to delete {shown} (must be forced) - image is referenced in multiple repositories",
                hint="name what shall go, or force it",
                code="image-has-names",
            )
        if users:
            raise Conflict(
                f"conflict: unable to delete {shown} (must be forced) - image is being used by stopped container "
                f"{short_id(users[0].id)}",
                hint=f"remove {users[0].name} first",
                code="image-in-use",
            )

    async def _delete(
        self, image: Image, family: Family, records: Records, *, prune: bool, quiet: bool, force: bool
    ) -> None:
        """Remove an image without a name, with its layers and parents; ``quiet`` lets it be where it is needed."""
        try:
            await self._check(image, family, force=force, several=True)
            if await self.users(image):
                return
            await self._store.images.remove(image.id)
        except Conflict:
            if quiet:
                return
            raise
        await self._settle()  # containers of --rm may still be letting go of the layers
        await self._store.collect()
        records.append({"Deleted": str(image.id)})
        self._events.publish("image", "delete", str(image.id), {"name": str(image.id)})  # its labels are gone
        left = await self._store.layers.sizes()
        layers = _chains(image.config.rootfs.diff_ids)
        records.extend({"Deleted": chain} for chain, diff_id in layers if diff_id not in left)
        parent = family.parent(image.id)
        family.forget(image.id)
        if prune and parent is not None:
            above = await self._store.images.get(parent)
            if not _names(above):
                await self._delete(above, family, records, prune=True, quiet=True, force=False)


def _runs(status: str) -> bool:
    return status in (ContainerStatus.RUNNING, ContainerStatus.PAUSED, ContainerStatus.RESTARTING)


def _names(image: Image) -> list[Reference]:
    return sorted((*image.tags, *image.digests), key=str)  # as Docker has it


def _going(image: Image, name: Reference) -> list[Reference]:
    """``name``, and with the last tag of a repository the digests that only this repository knows the image by."""
    if name.digest is not None:
        return [replace(name, tag="")]
    others = [tag for tag in image.tags if tag.name == name.name and tag != name]
    return [name, *(digest for digest in image.digests if digest.name == name.name and not others)]


def _is_single(names: Sequence[Reference]) -> bool:
    """Whether all names are of one repository and at most one is a tag; nothing is no single one."""
    return len({name.name for name in names}) == 1 and sum(bool(name.tag) for name in names) <= 1


def _in_use(image: Image, reference: str, user: ImageUser) -> Conflict:
    return Conflict(
        f'conflict: unable to remove repository reference "{reference}" (must force) - '
        f"container {short_id(user.id)} is using its referenced image {short_id(str(image.id))}",
        hint=f"remove {user.name} first",
        code="image-in-use",
    )


def _chains(diff_ids: Sequence[str]) -> list[tuple[str, str]]:
    """The chain ID and the diffID of each layer, top first (OCI image-spec, config.md, "Layer ChainID")."""
    chains: list[tuple[str, str]] = []
    for diff_id in diff_ids:
        text = f"{chains[-1][0]} {diff_id}" if chains else ""
        chain = f"sha256:{hashlib.sha256(text.encode()).hexdigest()}" if text else diff_id
        chains.append((chain, diff_id))
    return chains[::-1]
