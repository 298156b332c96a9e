"""The images service."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

from tare.build.request import Progress as BuildProgress
from tare.distroless.catalogue import DebianCatalogue
from tare.engine.boms import BillsOfMaterials
from tare.engine.events import Events
from tare.engine.image_differences import ImageDifferences
from tare.engine.image_filters import select
from tare.engine.image_import import ImageImports
from tare.engine.image_names import check_new_name
from tare.engine.image_parents import parents
from tare.engine.image_platforms import find
from tare.engine.image_removal import ImageRemoval
from tare.engine.image_tree import ImageTree, plant, shared_sizes
from tare.engine.looking_up import Found, LookUps
from tare.engine.progress import StatusLines, build_progress
from tare.engine.pulling import Pulls
from tare.engine.pushing import Pushes
from tare.engine.records import ContainerRecords
from tare.engine.requests import Filters, ImageSummary
from tare.engine.running import Running
from tare.engine.weigh import DEFAULT_DEPTH, Weigher
from tare.errors import InvalidArgument, NotFound, Unavailable
from tare.model import Digest, Platform, Reference
from tare.model.assembly import Assembled, Assembly
from tare.oci.image import History, Index
from tare.registry.client import RegistryClient
from tare.registry.credentials import Credentials
from tare.store.images import Image
from tare.store.store import Store

Progress = Callable[[dict[str, Any]], None]
"""Receives progress messages in the shape of the Engine API's JSON stream."""


class Images:
    """Find, name, assemble and remove images; :attr:`imports` makes them from root file systems."""

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
        imports: ImageImports,
    ) -> None:
        self.imports = imports
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
        self._removal = ImageRemoval(store=store, records=records, events=events, settle=settle)

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

    async def lineage(self, image: Image) -> list[Image]:
        """The image, the one that it was committed from, and so on, as far as they are here."""
        images = {one.id: one for one in await self._store.images.related(image)}
        ancestry = parents(list(images.values()))
        line = [image]
        while (parent := ancestry.get(line[-1].id)) is not None:
            line.append(images[parent])
        return line

    async def tag(self, reference: str, repository: str, tag: str = "") -> None:
        """Give an image another name. Raises NotFound, InvalidArgument."""
        image = await self._store.images.resolve(reference)
        name = Reference.parse(f"{repository}:{tag}" if tag else repository)
        check_new_name(name, "refusing to create a tag with a digest reference")
        await self._store.images.tag(image.id, name)
        labels = image.config.config.labels or {}
        self._events.publish("image", "tag", str(image.id), {**labels, "name": name.familiar()})

    async def remove(
        self, reference: str, *, force: bool = False, noprune: bool = False, platforms: Sequence[Platform] = ()
    ) -> list[dict[str, str]]:
        """See :meth:`ImageRemoval.remove`."""
        return await self._removal.remove(reference, force=force, prune=not noprune, platforms=platforms)

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

    async def referrers(
        self, reference: str, artifact_type: str = "", credentials: Credentials | None = None
    ) -> tuple[Digest, Index]:
        """What refers to an image at its registry: see :meth:`LookUps.referrers`."""
        return await self._look_ups.referrers(Reference.parse(reference), artifact_type, credentials)

    async def resolve_or_pull(
        self,
        reference: Reference,
        platform: Platform,
        *,
        refresh: bool = False,
        progress: BuildProgress | None = None,
        credentials: Credentials | None = None,
    ) -> Image:
        """The image from the store, else from outside; ``refresh`` asks outside first.

        An image of a registry that is here for another platform is asked for there; it has to do when nobody answers.
        """
        missing, here = None, None
        if not refresh:
            try:
                here = await self._store.images.resolve(str(reference), platform)
            except NotFound as error:
                missing = error
        if here is not None and (here.platform.satisfies(platform) or not here.digests):
            return here
        told = build_progress(progress or (lambda *_: None))
        if reference.is_virtual:
            return await self._store.images.get(await self._assemble(reference, platform, told))
        try:
            return await self._pulls.pull(reference, platform, credentials=credentials, tell=told)
        except Unavailable as error:
            if here is not None:
                return here
            if missing is None or error.code != "registry-not-configured":
                raise
            raise NotFound(f"{missing.message}, and {error.message}", hint=error.hint, code=error.code) from error

    async def assemble_packages(
        self, assembly: Assembly, platform: Platform, progress: Callable[[str, str], None], *, lease: str
    ) -> Assembled:
        """An image without a name, made of packages: see ``DebianCatalogue.assemble_packages``."""
        return await self._catalogue.assemble_packages(assembly, platform, progress, lease=lease)

    async def prune(self, filters: Filters | None = None) -> tuple[list[dict[str, str]], int]:
        """See :meth:`ImageRemoval.prune`; when all unused ones go, what broken pulls have downloaded goes as well."""
        records, freed = await self._removal.prune(filters or {})
        if filters is not None and filters.keys() == {"dangling"} and "false" in filters["dangling"]:
            freed += await self._pulls.remove_downloads()
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

    async def list(
        self,
        *,
        all: bool = False,  # noqa: A002
        filters: Filters | None = None,
        shared_size: bool = False,
    ) -> list[ImageSummary]:
        """Images, the youngest first; ``all`` with nameless ones from which others were committed.

        ``shared_size`` measures what they share. Filters: reference, label, dangling, before, since, until. Raises
        InvalidArgument.
        """
        images = await self._store.images.list()
        counts = await self._records.count_by_image()
        ancestry = parents(images)
        chosen = select(images, filters or {}, time.time(), everything=all, parents=set(ancestry.values()))
        shared = shared_sizes(images, await self._store.layers.sizes()) if shared_size else {}
        return [
            ImageSummary(
                id=str(image.id),
                tags=tuple(sorted(name.familiar() for name in names if name.digest is None)),
                digests=tuple(sorted(name.familiar() for name in names if name.digest is not None)),
                parent=str(ancestry.get(image.id, "")),
                created=image.config.created,
                size=image.size,
                shared_size=shared.get(str(image.id), -1),
                labels=image.config.config.labels,
                containers=counts.get(str(image.id), 0),
            )
            for image, names in chosen
        ]

    async def parent(self, image: Image) -> str:
        """The ID of the image that it was committed from, empty where there is none or it is gone."""
        return str(parents(await self._store.images.related(image)).get(image.id, ""))
