"""Named contexts (``--build-context NAME=VALUE``): what FROM, ``COPY --from`` and mounts get in place of a name.

A name stands for an image reference without registry, namespace and ``:latest`` where they are the defaults, on both
sides, so that ``alpine`` is found for ``docker.io/library/alpine:latest`` (BuildKit, dockerui).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tare.build.graph import NAMED, Included
from tare.build.ops.context import open_context
from tare.build.ops.select import Tree
from tare.build.request import BuildRequest
from tare.build.sources.addresses import is_http, parse_git, parse_http, redact
from tare.build.sources.fetcher import Credentials, Sources
from tare.build.sources.oci_layout import LayoutAddress, load_layout
from tare.errors import InvalidArgument, NotFound, TareError, Unsupported
from tare.model import Platform, Reference
from tare.store.images import Image
from tare.store.store import Store

IMAGE, LAYOUT = "docker-image://", "oci-layout://"
_RESERVED = ("scratch", "context")

Named = Image | Tree | Included | None
"""What a named context is: an image, files, a stage of another file, or nothing (``docker-image://scratch``)."""


def context_names(contexts: Mapping[str, str]) -> dict[str, str]:
    """The given names by what they are looked up as. Raises InvalidArgument for one that is no image name."""
    found: dict[str, str] = {}
    for name in contexts:
        key = lookup_name(name)
        if key is None:
            raise InvalidArgument(f"invalid context name {name}", hint="use lower-case letters, digits, . _ - /")
        found[key] = name
    return found


def lookup_name(name: str) -> str | None:
    """What a name in the Dockerfile is looked up as; None for one that no context can have."""
    if name.lower() in _RESERVED:
        return None
    try:
        return Reference.parse(name).familiar().removesuffix(":latest")
    except InvalidArgument:
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedContexts:
    """Opens the named contexts of one build; what is opened stays until ``stack`` is closed."""

    request: BuildRequest
    sources: Sources
    store: Store
    resolve: Callable[[Reference, Platform], Awaitable[Image]]
    protect: Callable[[Image], Awaitable[None]]
    stack: AsyncExitStack
    lease: str
    trees: dict[str, Tree] = field(default_factory=dict)
    """Contexts that are files, by their origins in the plan."""

    async def open(self, name: str, platform: Platform) -> Named:
        """The context that was given as ``name``.

        Raises NotFound, InvalidArgument, Unsupported and what fetching raises, naming the context.
        """
        value = self.request.contexts[name]
        try:
            found = await self._open(value, platform)
        except TareError as error:
            error.message = f"failed to get build context {name}: {error.message}"
            error.args = (error.message,)
            raise
        if isinstance(found, Tree):
            self.trees[NAMED + name] = found
        return found

    async def _open(self, value: str, platform: Platform) -> Named:
        if value.startswith(IMAGE):
            reference = value.removeprefix(IMAGE)
            return None if reference == "scratch" else await self.resolve(Reference.parse(reference), platform)
        if value.startswith(LAYOUT):
            address = LayoutAddress.parse(value.removeprefix(LAYOUT))
            image = await load_layout(address, platform, self.store, self.sources.limits, self.lease)
            await self.protect(image)
            return image
        remote = parse_git(value) or (parse_http(value) if is_http(value) else None)
        if remote is not None:
            given = Credentials(secrets=self.request.secrets, ssh=self.request.ssh)
            place = await self.stack.enter_async_context(self.sources.place(remote, given))
            if await asyncio.to_thread(place.is_file):
                place = place.parent / "named"  # BuildKit's form: one file that is called context
                return Tree(await asyncio.to_thread(_alone, place), keep_owner=False)
            return Tree(place, keep_owner=False)
        if "://" in value or value.startswith("target:"):
            raise Unsupported(
                f"unsupported context source {redact(value)}",
                hint="use a directory, git or http(s) address, docker-image:// or oci-layout://",
                code="source-protocol",
            )
        if not value.startswith("/"):
            raise InvalidArgument(f"{value}: expected an absolute directory on the engine's host")
        return await asyncio.to_thread(_directory, Path(value))


def _directory(place: Path) -> Tree:
    if not place.exists():
        raise NotFound(f"{place}: no such directory", hint="name a directory")
    tree = open_context(place, None, "")
    assert tree is not None
    return tree


def _alone(place: Path) -> Path:
    """A directory with only the fetched file beside it, called ``context``."""
    place.mkdir(exist_ok=True)
    if not (place / "context").exists():
        (place / "context").hardlink_to(place.parent / "content")
    return place
