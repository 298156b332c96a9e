"""Registries that this engine opens for others to pull from, each as long as somebody wants it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tare.archive.compression import Compression
from tare.engine.image_filters import name_filter
from tare.engine.images import Images
from tare.engine.offered_images import OfferedImages
from tare.errors import Forbidden, InvalidArgument
from tare.model import Platform
from tare.registry.server.handling import Handling, Visit
from tare.registry.server.layer_forms import LayerForms
from tare.registry.server.listener import Address, Listener, tls_context
from tare.registry.server.passwords import Passwords
from tare.store.store import Store

DEFAULT_ADDRESS = "127.0.0.1:5000"
COMPRESSIONS = (Compression.NONE, Compression.GZIP, Compression.ZSTD)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOrder:
    """A registry to be opened. ``certificate``, ``key`` (PEM) and ``htpasswd`` are texts, empty for none.

    ``platforms`` are those that images of ``tare.local`` are assembled for; none: the host's.
    ``images`` are patterns as those of ``images --filter reference``; none: all images. ``insecure`` allows an address
    that others reach without TLS.
    """

    address: str = DEFAULT_ADDRESS
    certificate: str = ""
    key: str = ""
    htpasswd: str = ""
    images: tuple[str, ...] = ()
    virtual: bool = True
    platforms: tuple[Platform, ...] = ()
    compression: Compression = Compression.NONE
    insecure: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A registry that listens; ``scheme`` is ``http`` or ``https``."""

    address: str
    scheme: str
    compression: str
    authentication: bool


class Serving:
    """Opens registries."""

    def __init__(self, store: Store, images: Images, cache: Path) -> None:
        self._store = store
        self._images = images
        self._cache = cache
        self._lock = asyncio.Lock()
        self._open = 0

    @asynccontextmanager
    async def serve(self, order: ServeOrder, observe: Callable[[Visit], None]) -> AsyncIterator[Opened]:
        """A registry for the time of the block; ``observe`` is told each request.

        Raises InvalidArgument, Forbidden for an address that others reach unprotected, Conflict when it is taken.
        """
        address = Address.parse(order.address)
        _check(order, address)
        tls = await asyncio.to_thread(tls_context, order.certificate, order.key) if order.certificate else None
        passwords = Passwords.parse(order.htpasswd) if order.htpasswd else None
        forms = LayerForms(self._store, self._cache, order.compression)
        content = OfferedImages(
            store=self._store,
            images=self._images,
            forms=forms,
            offered=name_filter(order.images),
            virtual=order.virtual,
            platforms=order.platforms,
        )
        async with self._counted(forms):
            listener = Listener(Handling(content, passwords, observe), tls)
            try:
                real = await listener.start(address)
                yield Opened(
                    address=str(real),
                    scheme="https" if tls is not None else "http",
                    compression=str(order.compression),
                    authentication=passwords is not None,
                )
            finally:
                await listener.close()
                await content.close()

    @asynccontextmanager
    async def _counted(self, forms: LayerForms) -> AsyncIterator[None]:
        """The first of several registries tidies their cache up."""
        async with self._lock:
            if not self._open:
                await forms.tidy()
            self._open += 1
        try:
            yield
        finally:
            self._open -= 1


def _check(order: ServeOrder, address: Address) -> None:
    if order.compression not in COMPRESSIONS:
        raise InvalidArgument(
            f"layers are not served with {order.compression}",
            hint=f"take {', '.join(COMPRESSIONS)}",
            code="compression",
        )
    if bool(order.certificate) != bool(order.key):
        missing = "key" if order.certificate else "certificate"
        raise InvalidArgument(f"TLS needs a certificate and its key: the {missing} is missing", code="certificate")
    if not order.certificate and not address.is_loopback and not order.insecure:
        raise Forbidden(
            f"refusing to serve on {address} without TLS: whoever is on the way could change images and read passwords,"
            " and most clients take plain HTTP from this machine only",
            hint="give --tls-cert and --tls-key, or --insecure if this network may be trusted",
            code="registry-insecure",
        )
