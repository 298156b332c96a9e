"""What a registry offers of this engine: its images by their names, and the catalogue of ``tare.local``."""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from tare.distroless.overview import ANY_PACKAGES, Offer, offers
from tare.engine.image_holds import ImageHolds
from tare.engine.images import Images
from tare.engine.offered_catalogue import OfferedCatalogue
from tare.errors import DataCorrupt, NotFound, Unsupported
from tare.model import Digest, Platform, Reference
from tare.oci.image import Manifest
from tare.registry.manifests import RawManifest, parse
from tare.registry.server.documents import Accepted, Document, Form, LayerForm, index, manifest
from tare.registry.server.files import Blob
from tare.registry.server.layer_forms import LayerForms
from tare.registry.server.names import Repository, names_of
from tare.store.images import Image
from tare.store.store import Store

_REMEMBERED = 1024
_CATALOGUE = ("distroless/", "deb/")


@dataclass(frozen=True, slots=True)
class _Parts:
    """An image taken apart: its manifests by form, and its layers as they are sent, bottom first."""

    documents: dict[Form, Document]
    layers: tuple[LayerForm, ...]

    def layer(self, digest: Digest) -> LayerForm | None:
        """The layer with this digest."""
        return next((one for one in self.layers if one.digest == digest), None)


class OfferedImages:
    """Implements :class:`tare.registry.server.handling.Content`.

    ``offered`` says by its name whether an image is to be had. ``virtual`` has images of ``tare.local`` assembled when
    they are asked for; without it those that are here are offered as they are.
    """

    def __init__(
        self,
        *,
        store: Store,
        images: Images,
        forms: LayerForms,
        offered: Callable[[Reference], bool],
        virtual: bool,
        platforms: Sequence[Platform] = (),
    ) -> None:
        self._store = store
        self._forms = forms
        self._offered = offered
        self._virtual = virtual
        self._holds = ImageHolds(store)
        self._parts: OrderedDict[Digest, _Parts] = OrderedDict()
        self._indexes: OrderedDict[Digest, tuple[Document, tuple[Digest, ...]]] = OrderedDict()
        self._catalogue = OfferedCatalogue(images, platforms)

    async def close(self) -> None:
        """Let go of what clients were fetching."""
        await self._holds.close()

    async def repositories(self) -> list[str]:
        """The names of all repositories, sorted; an image may be in several."""
        found = {name for reference, _ in await self._named() for name in names_of(reference)}
        for offer in self._offers():
            if offer.repository != ANY_PACKAGES and self._tags_of(offer, Reference.parse(offer.repository)):
                found.update(names_of(Reference.parse(offer.repository)))
        return sorted(found)

    async def tags(self, repository: Repository) -> list[str]:
        """The tags of one repository, sorted. Raises NotFound."""
        found = {reference.tag for reference, _ in await self._named() if repository.rank(reference) is not None}
        virtual = repository.virtual("latest")
        for offer in self._offers():
            if virtual is not None and offer.has(virtual.name):
                found.update(self._tags_of(offer, virtual))
        if not found - {""}:
            raise NotFound(
                f"repository {repository.name} is not known", hint="/v2/_catalog lists all", code="NAME_UNKNOWN"
            )
        return sorted(found - {""})

    @asynccontextmanager
    async def manifest(self, repository: Repository, wanted: str | Digest, accept: Accepted) -> AsyncIterator[Document]:
        """A manifest or index. Raises NotFound, and what keeps an image from being assembled."""
        if isinstance(wanted, Digest):
            async with self._manifest_by_digest(repository, wanted) as known:
                yield known
            return
        images = await self._find(repository, wanted)
        if not accept.indexes:
            own = Platform.host() if Platform.host() in images else next(iter(images))
            images = {own: images[own]}
        async with AsyncExitStack() as stack:
            documents: dict[Platform, Document] = {}
            for platform, image in sorted(images.items(), key=lambda one: str(one[0])):
                found = await stack.enter_async_context(self._holds.using(image, repository.name))
                document = (await self._take_apart(found)).documents.get(accept.form)
                if document is None:
                    raise NotFound(
                        f"{repository.name}:{wanted}: its layers are compressed with {self._forms.kind}, which Docker's"
                        " manifests do not know",
                        hint="ask for an OCI manifest, or have the registry serve gzip",
                        code="MANIFEST_UNKNOWN",
                    )
                documents[platform] = document
            yield self._joined(documents, tuple(images.values()), accept.form)

    def _joined(self, documents: Mapping[Platform, Document], images: tuple[Digest, ...], form: Form) -> Document:
        """The only manifest, or an index of all."""
        if len(documents) == 1:
            return next(iter(documents.values()))
        joined = index(documents, form)
        self._indexes[joined.digest] = (joined, images)
        while len(self._indexes) > _REMEMBERED:
            self._indexes.popitem(last=False)
        return joined

    @asynccontextmanager
    async def _manifest_by_digest(self, repository: Repository, digest: Digest) -> AsyncIterator[Document]:
        images = await self._images_of(repository)
        joined, members = self._indexes.get(digest, (None, ()))
        if joined is not None and set(members) <= set(images):
            async with AsyncExitStack() as stack:
                for image in members:
                    await stack.enter_async_context(self._holds.using(image, repository.name))
                yield joined
            return
        for image in images:
            parts = await self._known_parts(image)
            made = (one for one in parts.documents.values() if one.digest == digest) if parts is not None else ()
            if (document := next(iter(made), None)) is not None:
                async with self._holds.using(image, repository.name):
                    yield document
                return
        for image in images:
            names = await self._store.images.known_as(image)
            own = next((one.manifest for one in names if digest in (one.manifest, one.digest)), None)
            if own is None:
                continue
            async with self._holds.using(image, repository.name) as found:
                if (kept := await self._kept(found, own, digest)) is not None:
                    yield kept
                    return
        raise NotFound(f"manifest {digest} is not known in {repository.name}", code="MANIFEST_UNKNOWN")

    @asynccontextmanager
    async def blob(self, repository: Repository, digest: Digest) -> AsyncIterator[Blob]:
        """A configuration or layer of one of the repository's images. Raises NotFound, Exhausted."""
        for image in await self._images_of(repository):
            if image == digest:
                async with self._holds.using(image, repository.name):
                    yield Blob(self._store.content.path(digest), digest)
                return
            parts = await self._known_parts(image)
            layer = parts.layer(digest) if parts is not None else None
            if layer is None:
                continue
            async with self._holds.using(image, repository.name):
                path = await self._forms.file(layer)
                if path is not None:
                    yield Blob(path, digest)
                    return
                self._parts.pop(image, None)
        raise NotFound(f"blob {digest} is not known in {repository.name}", code="BLOB_UNKNOWN")

    async def _named(self) -> list[tuple[Reference, Digest]]:
        return [(name, image) for name, image in await self._store.images.names() if self._offered(name)]

    async def _images_of(self, repository: Repository) -> list[Digest]:
        """Images by any tag of the repository, and those that clients are fetching by it, though removed."""
        named = [image for name, image in await self._named() if repository.rank(name) is not None]
        return list(dict.fromkeys([*named, *self._holds.of(repository.name)]))

    async def _find(self, repository: Repository, tag: str) -> dict[Platform, Digest]:
        """What a tag names, by platform; assembled when it is of ``tare.local`` and not up to date."""
        fitting: dict[Reference, int] = {}
        for reference, _ in await self._named():
            if reference.tag == tag and (rank := repository.rank(reference)) is not None:
                fitting[reference] = rank
        best = min(fitting, key=lambda one: (fitting[one], str(one)), default=None)
        images = {image.platform: image.id for image in await self._store.images.named(best)} if best else {}
        if images and best is not None and not (best.is_virtual and self._virtual):
            return images
        virtual = best if best is not None else self._virtual_reference(repository, tag)
        if virtual is None or not (virtual.is_virtual and self._virtual):
            raise NotFound(
                f"{repository.name}:{tag} is not here",
                hint="tags/list and _catalog tell what is",
                code="MANIFEST_UNKNOWN",
            )
        return await self._catalogue.get(virtual, images)

    def _virtual_reference(self, repository: Repository, tag: str) -> Reference | None:
        reference = repository.virtual(tag)
        if not self._virtual or reference is None or not self._offered(reference):
            return None
        return reference if reference.path == "debian" or reference.path.startswith(_CATALOGUE) else None

    def _offers(self) -> list[Offer]:
        return offers() if self._virtual else []

    def _tags_of(self, offer: Offer, reference: Reference) -> list[str]:
        return [tag for tag in (*offer.tags, "latest") if self._offered(reference.with_tag(tag))]

    async def _take_apart(self, image: Image) -> _Parts:
        """Manifests and layers of an image that is held; compresses layers that have not been yet."""
        if (parts := self._parts.get(image.id)) is None:
            layers = [await self._forms.get(diff_id) for diff_id in image.diff_ids]
            parts = await self._join(image, layers)
        return parts

    async def _known_parts(self, image: Digest) -> _Parts | None:
        """As :meth:`_take_apart`, but None where a layer would have to be compressed: nobody was told its digest."""
        if (parts := self._parts.get(image)) is not None:
            self._parts.move_to_end(image)
            return parts
        try:
            found = await self._store.images.get(image)
            layers = [await self._forms.known(diff_id) for diff_id in found.diff_ids]
        except (NotFound, DataCorrupt):
            return None  # it went in this moment, or is damaged: the others are there all the same
        known = [layer for layer in layers if layer is not None]
        return await self._join(found, known) if len(known) == len(layers) else None

    async def _join(self, image: Image, layers: list[LayerForm]) -> _Parts:
        size = len(await self._store.content.read(image.id))
        documents: dict[Form, Document] = {}
        forms: tuple[Form, ...] = ("oci", "docker")
        for form in forms:
            if (document := manifest(image.id, size, layers, form)) is not None:
                documents[form] = document
        parts = _Parts(documents, tuple(layers))
        self._parts[image.id] = parts
        while len(self._parts) > _REMEMBERED:
            self._parts.popitem(last=False)
        return parts

    async def _kept(self, image: Image, own: Digest, digest: Digest) -> Document | None:
        """A manifest or index by which a registry knows the image, if all that its ``own`` manifest names is here.

        So it is where layers are sent as that registry has them; what has been compressed elsewhere has other digests.
        """
        layers = [str(layer.digest) for layer in (await self._take_apart(image)).layers]
        with contextlib.suppress(NotFound, DataCorrupt, Unsupported):  # of what is damaged there is no use
            content = parse(await self._raw(own))
            if isinstance(content, Manifest) and (content.config.digest, [one.digest for one in content.layers]) == (
                str(image.id),
                layers,
            ):
                raw = await self._raw(digest)
                return Document(raw.media_type, digest, raw.data)
        return None

    async def _raw(self, digest: Digest) -> RawManifest:
        media_type, data = await self._store.content.typed(digest)
        return RawManifest(media_type=media_type, digest=digest, data=data)
