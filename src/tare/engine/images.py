"""The images service."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

from tare.archive.compression import decompress
from tare.base.readers import Readable
from tare.build.request import Progress as BuildProgress
from tare.distroless.catalogue import DebianCatalogue
from tare.engine.boms import BillsOfMaterials
from tare.engine.clock import now
from tare.engine.events import Events
from tare.engine.image_differences import ImageDifferences
from tare.engine.image_filters import select, select_for_prune
from tare.engine.image_platforms import find
from tare.engine.image_tree import ImageTree, plant
from tare.engine.looking_up import Found, LookUps
from tare.engine.progress import StatusLines
from tare.engine.pulling import Pulls
from tare.engine.pushing import Pushes
from tare.engine.records import ContainerRecords
from tare.engine.requests import Filters, ImageSummary
from tare.engine.running import Running
from tare.engine.weigh import DEFAULT_DEPTH, Weigher
from tare.errors import Conflict, InvalidArgument, NotFound, Unavailable
from tare.model import Digest, Platform, Reference, short_id
from tare.model.assembly import Assembled, Assembly
from tare.oci.image import ExecutionConfig, History, ImageConfig, RootFS
from tare.registry.client import RegistryClient
from tare.registry.credentials import Credentials
from tare.store.images import Image
from tare.store.store import Store

Progress = Callable[[dict[str, Any]], None]
"""Receives progress messages in the shape of the Engine API's JSON stream."""


def _is_single(image: Image) -> bool:
    """Whether an image can be removed by its identifier: it has one tag at most and is known in one repository."""
    return len(image.tags) <= 1 and len({name.name for name in (*image.tags, *image.digests)}) <= 1


def _names(image: Image) -> list[Reference]:
    return sorted((*image.tags, *image.digests), key=Reference.familiar)


def _going(image: Image, name: Reference) -> list[Reference]:
    """``name``, and with the last tag of a repository the digests that only this repository knows the image by."""
    if name.digest is not None:
        return [replace(name, tag="")]
    others = [tag for tag in image.tags if tag.name == name.name and tag != name]
    return [name, *(digest for digest in image.digests if digest.name == name.name and not others)]


class Images:
    """Find, name, assemble, import and remove images."""

    def __init__(
        self,
        *,
        store: Store,
        records: ContainerRecords,
        catalogue: DebianCatalogue,
        weigher: Weigher,
        boms: BillsOfMaterials,
        pulls: Pulls,
        pushes: Pushes,
        look_ups: LookUps,
        registries: RegistryClient,
        events: Events,
        settle: Callable[[], Awaitable[None]],
    ) -> None:
        self._store = store
        self._records = records
        self._catalogue = catalogue
        self._weigher = weigher
        self._boms = boms
        self._pulls = pulls
        self._pushes = pushes
        self._look_ups = look_ups
        self._registries = registries
        self._running = Running()
        self._differences = ImageDifferences(store)
        self._events = events
        self._settle = settle

    async def get(self, reference: str, platform: Platform | None = None) -> Image:
        """Find by name, id or unique prefix, for one platform or the host's. Raises NotFound, Conflict."""
        return await find(self._store.images, reference, platform)

    async def history(self, reference: str, platform: Platform | None = None) -> list[tuple[History, int]]:
        """The image's history, newest first, each step with the bytes of its layer. Raises as :meth:`get`."""
        image = await self.get(reference, platform)
        sizes = [(await self._store.layers.get(diff_id)).size for diff_id in image.diff_ids]
        rows, index = [], 0
        for step in image.config.history:
            size = 0
            if not step.empty_layer and index < len(sizes):
                size = sizes[index]
                index += 1
            rows.append((step, size))
        return rows[::-1]

    async def tag(self, reference: str, repository: str, tag: str = "") -> None:
        """Give an image another name. Raises NotFound, InvalidArgument."""
        image = await self._store.images.resolve(reference)
        name = Reference.parse(f"{repository}:{tag}" if tag else repository)
        if name.digest is not None:
            raise InvalidArgument("refusing to create a tag with a digest reference")
        await self._store.images.tag(image.id, name)
        self._emit(image, "tag", name.familiar())

    async def remove(
        self, reference: str, *, force: bool = False, noprune: bool = False, platforms: Sequence[Platform] = ()
    ) -> list[dict[str, str]]:
        """Remove a name, and the image with its last one; returns ``Untagged`` and ``Deleted`` records.

        Of a name that stands for several platforms, all images or those for ``platforms``. Raises NotFound, Conflict
        when a container uses it or an id has several names.
        """
        if platforms:
            return await self._remove_platforms(reference, platforms, force=force)
        image = await self._store.images.resolve(reference)
        by_id = str(image.id).removeprefix("sha256:").startswith(reference.removeprefix("sha256:"))
        named = None if by_id else Reference.parse(reference)
        if by_id and not _is_single(image) and not force:
            raise Conflict(
                f"conflict: unable to delete {short_id(str(image.id))} (must be forced) - "
                "image is referenced in multiple repositories"
            )
        several = await self._store.images.named(named) if named is not None else []
        return await self._remove_all(several or [image], named, reference, force=force)

    async def _remove_platforms(
        self, reference: str, platforms: Sequence[Platform], *, force: bool
    ) -> list[dict[str, str]]:
        chosen = [await self.get(reference, platform) for platform in platforms]
        named = Reference.parse(reference)
        if any(named not in image.tags for image in chosen):
            raise InvalidArgument(f"{reference}: platforms are of names, and this is an ID", hint="remove it without")
        several = list({image.id: image for image in chosen}.values())
        return await self._remove_all(several, named, reference, force=force)

    async def _remove_all(
        self, images: Sequence[Image], named: Reference | None, reference: str, *, force: bool
    ) -> list[dict[str, str]]:
        """Take ``named``, or all names, from the images; all are checked before the first one goes."""
        doomed = [(one, _names(one) if named is None else _going(one, named)) for one in images]
        last = {one.id for one, names in doomed if set(names) >= set(_names(one))}
        for one, _ in doomed:
            if one.id in last:
                await self._check_unused(one, reference, force=force)
        records: list[dict[str, str]] = []
        for one, names in doomed:
            for record in await self._remove(one, names, last=one.id in last):
                if record not in records:  # a name of several platforms goes once
                    records.append(record)
        return records

    async def _remove(self, image: Image, names: list[Reference], *, last: bool) -> list[dict[str, str]]:
        """Take the names away, and the image with its last one."""
        records = []
        for name in names:
            await self._store.images.untag(name, image.id)
            records.append({"Untagged": name.familiar()})
            self._emit(image, "untag", str(image.id))
        if last and not await self._users(image):
            await self._store.images.remove(image.id)
            await self._settle()  # containers of --rm may still be letting go of the layers
            await self._store.collect()
            records.append({"Deleted": str(image.id)})
            self._events.publish("image", "delete", str(image.id), {"name": str(image.id)})  # its labels are gone
        return records

    def _emit(self, image: Image, action: str, name: str) -> None:
        self._events.publish("image", action, str(image.id), {**(image.config.config.labels or {}), "name": name})

    async def _check_unused(self, image: Image, reference: str, *, force: bool) -> None:
        for container_id, name, live in await self._users(image):
            if live:
                what = "cannot be forced" if force else "must force"
                raise Conflict(
                    f"conflict: unable to delete {reference} ({what}) - image is being used by running container "
                    f"{container_id[:12]}",
                    hint=f"stop and remove {name} first",
                )
            if not force:
                raise Conflict(
                    f'conflict: unable to remove repository reference "{reference}" (must force) - '
                    f"container {container_id[:12]} is using its referenced image {short_id(str(image.id))}",
                    hint=f"remove {name} first",
                )

    async def _users(self, image: Image) -> list[tuple[str, str, bool]]:
        """Containers that are made of it, or have it mounted: identifier, name, whether it is alive."""
        wanted = str(image.id)
        return [
            (item.id, item.name, item.state.status in ("running", "paused", "restarting"))
            for item in await self._records.list()
            if item.image_id == wanted or any(detail.image == wanted for detail in item.mount_details.values())
        ]

    async def pull(
        self,
        reference: str,
        platform: str = "",
        progress: Progress | None = None,
        credentials: Credentials | None = None,
    ) -> None:
        """Get an image from its registry; ``tare.local`` is assembled from Debian packages.

        A name with neither tag nor digest stands for all tags of the repository. Raises what :meth:`Pulls.pull` does.
        """
        name = Reference.parse(reference, default_tag="")
        wanted = Platform.parse(platform) if platform else None
        tell = progress or (lambda _: None)
        if name.is_virtual:
            await self._running.run(self._assemble(Reference.parse(reference), wanted or Platform.host(), tell))
        elif name.tag or name.digest is not None:
            await self._running.run(self._pulls.pull(name, wanted, credentials=credentials, tell=tell))
        else:
            await self._running.run(self._pulls.pull_all(name, wanted, credentials=credentials, tell=tell))

    async def _assemble(self, name: Reference, platform: Platform, tell: Progress) -> Digest:
        tell({"status": f"Assembling from {name.name}", "id": name.tag})
        image = await self._catalogue.assemble(name, platform, StatusLines(tell))
        tell({"status": f"Digest: {image}"})
        tell({"status": f"Status: Assembled {name.familiar()}"})
        self._events.publish("image", "pull", name.familiar(), {"name": name.familiar_name})
        return image

    async def push(
        self,
        reference: str,
        tag: str = "",
        platform: Platform | None = None,
        progress: Progress | None = None,
        credentials: Credentials | None = None,
    ) -> None:
        """Put a tag, or all tags of a repository where none is given, into its registry: see :meth:`Pushes.push`."""
        name = Reference.parse(f"{reference}:{tag}" if tag else reference, default_tag="")
        if name.digest is not None:
            raise InvalidArgument("cannot push a digest reference")
        tell = progress or (lambda _: None)
        await self._running.run(self._pushes.push(name, platform, credentials=credentials, tell=tell))

    async def start(self) -> None:
        """Delete downloads that nobody came back to."""
        await self._registries.downloads.remove_stale()

    async def close(self) -> None:
        """End the pulls and pushes that run, and all connections to registries."""
        await self._running.close()
        await self._registries.close()

    async def look_up(self, reference: str, credentials: Credentials | None = None) -> Found:
        """What a registry has under a name: see :meth:`LookUps.look_up`."""
        return await self._look_ups.look_up(Reference.parse(reference), credentials)

    async def resolve_or_pull(
        self,
        reference: Reference,
        platform: Platform,
        *,
        refresh: bool = False,
        progress: BuildProgress | None = None,
        credentials: Credentials | None = None,
    ) -> Image:
        """The image from the store, else from outside; ``refresh`` asks outside first."""
        missing = None
        if not refresh:
            try:
                return await self._store.images.resolve(str(reference), platform)
            except NotFound as error:
                missing = error
        tell = progress or (lambda *_: None)

        def told(message: dict[str, Any]) -> None:
            detail = message.get("progressDetail") or {}
            in_bytes = "units" not in detail
            current, total = (int(detail.get(name, 0)) if in_bytes else 0 for name in ("current", "total"))
            tell(str(message.get("id", "")), str(message["status"]), current, total)

        if reference.is_virtual:
            return await self._store.images.get(await self._assemble(reference, platform, told))
        try:
            return await self._pulls.pull(reference, platform, credentials=credentials, tell=told)
        except Unavailable as error:
            if missing is None or error.code != "registry-not-configured":
                raise
            raise NotFound(f"{missing.message}, and {error.message}", hint=error.hint, code=error.code) from error

    async def assemble_nameless(self, reference: Reference, platform: Platform, *, lease: str) -> Digest:
        """An image of ``tare.local`` that gets no name, held by ``lease``: see ``DebianCatalogue``."""
        return await self._catalogue.assemble_nameless(reference, platform, lambda *_: None, lease=lease)

    async def assemble_packages(
        self, assembly: Assembly, platform: Platform, progress: Callable[[str, str], None], *, lease: str
    ) -> Assembled:
        """An image without a name, made of packages: see ``DebianCatalogue.assemble_packages``."""
        return await self._catalogue.assemble_packages(assembly, platform, progress, lease=lease)

    async def import_tar(
        self,
        stream: Readable,
        repository: str = "",
        tag: str = "",
        message: str = "",
        config: ExecutionConfig | None = None,
    ) -> Digest:
        """Make an image with one layer from a root file system's tar, plain or compressed.

        Raises DataCorrupt for what is no tar, InvalidArgument for the name.
        """
        name = Reference.parse(f"{repository}:{tag}" if tag else repository) if repository else None
        async with self._store.leases.hold() as lease:
            layer = await self._store.layers.import_stream(
                await asyncio.to_thread(decompress, stream), None, lease=lease
            )
            document = ImageConfig(
                architecture=Platform.host().architecture,
                os="linux",
                created=now(),
                config=config or ExecutionConfig(),
                rootfs=RootFS(diff_ids=[str(layer.diff_id)]),
                history=[History(created=now(), comment=message or "Imported from -")],
            )
            image = await self._store.images.create(document, tag=name)
        self._events.publish("image", "import", str(image), {"name": name.familiar() if name else str(image)})
        return image

    async def prune(self, filters: Filters | None = None) -> tuple[list[dict[str, str]], int]:
        """Remove images without a name that nothing uses, with filter ``dangling=false`` all unused ones.

        Further filters: ``until``, ``label``, ``label!``. Returns the records of :meth:`remove` and the bytes of the
        layers that went. Raises InvalidArgument.
        """
        records: list[dict[str, str]] = []
        before = await self._store.layers.sizes()
        doomed: set[str] = set()
        for image in select_for_prune(await self._store.images.list(), filters or {}, time.time()):
            if await self._users(image):
                continue
            try:
                records.extend(await self.remove(str(image.id), force=True))
            except (Conflict, NotFound):
                continue  # a container took it meanwhile, or somebody removed it
            doomed.update(image.config.rootfs.diff_ids)
        gone = doomed - (await self._store.layers.sizes()).keys()
        freed = sum(before.get(diff_id, 0) for diff_id in gone)
        self._events.publish("image", "prune", "", {"reclaimed": str(freed)})
        return records, freed

    async def layers_size(self) -> int:
        """Bytes on disk of all layers that images have, shared ones once: their tars, and their unpacked trees."""
        return await self._store.layers.usage()

    async def tree(self) -> ImageTree:
        """All images and the layers that they share."""
        images = await self._store.images.list()
        sizes = await self._store.layers.sizes()
        present = [image for image in images if sizes.keys() >= set(image.config.rootfs.diff_ids)]
        return await asyncio.to_thread(plant, present, sizes)  # an image may have gone in between

    async def diff(self, before: str, after: str) -> bytes:
        """What the image ``after`` has otherwise, as JSON: see :class:`ImageDifferences`. Raises NotFound."""
        images = self._store.images
        return await self._differences.compare(await images.resolve(before), await images.resolve(after))

    async def weigh(self, reference: str, *, depth: int = DEFAULT_DEPTH) -> dict[str, Any]:
        """What is in the image and how much: see :class:`Weigher`."""
        return await self._weigher.weigh(await self._store.images.resolve(reference), depth=depth)

    async def bill_of_materials(self, reference: str, kind: str) -> tuple[str, AsyncIterator[bytes]]:
        """Media type and pieces of an SBOM: see :class:`BillsOfMaterials`. Raises NotFound, InvalidArgument."""
        return await self._boms.make(await self._store.images.resolve(reference), reference, kind)

    async def list(self, *, all: bool = False, filters: Filters | None = None) -> list[ImageSummary]:  # noqa: A002
        """Images, newest first. Filters: reference, label, dangling, before, since, until. Raises InvalidArgument."""
        images = await self._store.images.list()
        counts = await self._records.count_by_image()
        return [
            ImageSummary(
                id=str(image.id),
                tags=tuple(sorted(name.familiar() for name in names if name.digest is None)),
                digests=tuple(sorted(name.familiar() for name in names if name.digest is not None)),
                created=image.config.created,
                size=image.size,
                labels=image.config.config.labels or {},
                containers=counts.get(str(image.id), 0),
            )
            for image, names in select(images, filters or {}, time.time())
        ]
