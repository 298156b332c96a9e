"""Declarative files in a build: read from a context, assembled, and planned as stages that others can stand on."""

from __future__ import annotations

import asyncio
import datetime
import posixpath
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tare.build.assembly.document import DocumentFile, read_document
from tare.build.assembly.files import inside, read_file, stage_names
from tare.build.assembly.lockfile import (
    LockFile,
    LockUpdate,
    changes_between,
    lock_name,
    pins_for,
    read_lock,
    write_lock,
)
from tare.build.assembly.lowering import Lowered, lower
from tare.build.assembly.names import is_document
from tare.build.assembly.placing import placed, placed_in_lock
from tare.build.checks.findings import Finding
from tare.build.checks.linter import Linter
from tare.build.dockerfile.stages import Dockerfile
from tare.build.graph import NAMED, Included, in_context
from tare.build.named import Named, NamedContexts
from tare.build.ops.context import open_context
from tare.build.outputs.timestamps import read_epoch
from tare.build.planner import OpenContext, Planner, ResolveImage
from tare.build.request import BuildRequest
from tare.errors import InvalidArgument, NotFound, TareError, Unsupported
from tare.model import Platform
from tare.model.assembly import Assembly, Pin
from tare.store.images import Image

_MAX_DEPTH = 8

Assemble = Callable[[Assembly, Platform], Awaitable[tuple[Image, tuple[Pin, ...]]]]
"""The image that an assembly describes, which stays for the length of the build, and its packages."""


@dataclass(frozen=True, slots=True)
class Home:
    """Where files are: ``context`` is a named context, empty for the build's own; ``directory`` None has no files."""

    context: str
    directory: Path | None


@dataclass(frozen=True, slots=True)
class Place:
    """A file in a context."""

    home: Home
    name: str

    @property
    def shown(self) -> str:
        """What errors call it."""
        return f"{self.home.context}:{self.name}" if self.home.context else self.name


@dataclass(slots=True, kw_only=True)
class Documents:
    """Opens the declarative files of one build.

    ``locks`` has the lock files to be written, by the files that they are for; ``findings`` what checks found in
    Dockerfiles that a declarative file names; ``built`` when the newest package of the main file was built (seconds;
    None where there is none).
    """

    request: BuildRequest
    named: NamedContexts
    resolve: ResolveImage
    assemble: Assemble
    observe: Callable[[Finding], None]
    locks: dict[Place, LockUpdate] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    built: int | None = None

    async def open(self, name: str, platform: Platform) -> Named:
        """What a Dockerfile in the build context means by ``name``: a declarative file, or a named context.

        Raises NotFound, DocumentError, what assembling, reading and fetching raise.
        """
        return await self.find(Home("", self.request.context), name, platform, ())

    async def main(self) -> tuple[Planner, OpenContext]:
        """What plans the build's own file, which is a declarative one. Raises as :meth:`open`."""
        place = Place(Home("", self.request.context), posixpath.normpath(self.request.dockerfile_name))
        unit = _Unit(self, place, self.request.platform or Platform.host(), (), main=True)
        if self.request.target:
            return await unit.target()
        return await unit.planner()

    async def find(self, home: Home, name: str, platform: Platform, trail: tuple[Place, ...]) -> Named:
        """As :meth:`open`, for a file in ``home``; ``trail`` are the declarative files that lead to it."""
        if is_document(name):
            return await self._include(Place(home, inside(name)), platform, trail)
        value = self.request.contexts[name]
        if is_document(value):
            path = Path(value)
            return await self._include(Place(Home(name, path.parent), path.name), platform, trail)
        return await self.named.open(name, platform)

    async def _include(self, place: Place, platform: Platform, trail: tuple[Place, ...]) -> Included:
        if place in trail or len(trail) >= _MAX_DEPTH:
            names = " needs ".join(item.shown for item in (*trail, place))
            raise InvalidArgument(
                f"circular dependency of declarative files: {names}",
                hint="a file can only take from files that do not take from it",
                code="assembly-cycle",
            )
        unit = _Unit(self, place, platform, trail)
        planner, opener = await unit.planner()
        found = (await planner.include([unit.label], self.resolve, opener))[unit.label]
        return found if not place.home.context else await self._moved(place.home, found)

    async def _moved(self, home: Home, included: Included) -> Included:
        """``included`` with the files of its own directory in place of the build context's."""
        origin = f"{NAMED}{home.context}"
        tree = await asyncio.to_thread(open_context, home.directory, None, "")
        assert tree is not None
        self.named.trees[origin] = tree
        steps = {step.id: in_context(step, origin, home.context) for step in included.steps}
        return replace(
            included,
            steps=tuple(steps.values()),
            shown=tuple(steps.get(step.id, step) for step in included.shown),
        )


class _Unit:
    """One declarative file while it is planned."""

    def __init__(
        self, documents: Documents, place: Place, platform: Platform, trail: tuple[Place, ...], *, main: bool = False
    ) -> None:
        self._documents = documents
        self._request = replace(documents.request, platform=platform)
        self._place = place
        self._platform = platform
        self._trail = (*trail, place)
        self._main = main
        self.label = posixpath.basename(place.name).lower()
        self._prefix = "" if main else "".join(f"{item.shown}:" for item in self._trail) + f"{platform}:"

    async def planner(self) -> tuple[Planner, OpenContext]:
        """The planner of its only stage, and what opens the names in it."""
        read = await self._read()
        document = read.document
        if document.architectures and self._platform.architecture not in document.architectures:
            known = ", ".join(document.architectures)
            error = Unsupported(f"{self._place.shown} is not for {self._platform}, but for {known}")
            error.hint = "build with --platform, or add it to architectures"
            error.code = "assembly-platform"
            raise placed(error, read, "architectures")
        linted = await self._dockerfile(read) if document.dockerfile else None
        lowered = lower(read, self.label, stages=stage_names(linted[1]) if linted is not None else {})
        included: Mapping[str, Included] = {}
        if linted is not None and lowered.stages:
            included = await self._stages(*linted, lowered)

        async def opened(name: str, platform: Platform) -> Named:
            if name == lowered.base:
                return await self._assembled(read)
            if name in included:
                return included[name]
            return await self._documents.find(self._place.home, name, platform, self._trail)

        request = replace(self._request, target="")

        def own(name: str) -> bool:
            return lowered.owns(name) or is_document(name)

        return Planner(lowered.dockerfile, request, prefix=self._prefix, own=own), opened

    async def target(self) -> tuple[Planner, OpenContext]:
        """The planner of a stage of its Dockerfile, which is asked for as the target."""
        read, target = await self._read(), self._request.target
        if target.lower() == self.label:
            return await self.planner()
        names: list[str] = [self.label]
        if read.document.dockerfile:
            _, dockerfile = await self._dockerfile(read)
            names += [stage.name or str(stage.index) for stage in dockerfile.stages]
            if dockerfile.stage(target) is not None:
                return Planner(dockerfile, self._request), self._documents.open
        raise NotFound(
            f'target stage "{target}" could not be found', hint=f"stages are {', '.join(names)}", code="no-target"
        )

    async def _read(self) -> DocumentFile:
        text = self._request.dockerfile if self._main else await self._text(self._place.name)
        return await asyncio.to_thread(read_document, text, self._place.name)

    async def _text(self, name: str) -> str:
        home = self._place.home
        return await asyncio.to_thread(read_file, home.directory, name, home.context)

    async def _dockerfile(self, read: DocumentFile) -> tuple[Linter, Dockerfile]:
        name = inside(read.document.dockerfile)
        try:
            text = await self._text(name)
        except NotFound as error:
            raise placed(error, read, "dockerfile") from error
        linter = Linter(replace(self._request, dockerfile=text, dockerfile_name=name), self._found)
        return linter, await linter.read()

    def _found(self, finding: Finding) -> None:
        """Take a finding, unless it is in the build's own Dockerfile, which is checked by itself."""
        if self._place.home.context or finding.file != self._request.dockerfile_name:
            self._documents.findings.append(finding)
            self._documents.observe(finding)

    async def _stages(self, linter: Linter, dockerfile: Dockerfile, lowered: Lowered) -> Mapping[str, Included]:
        """The stages of its Dockerfile that it copies from."""

        async def opened(name: str, platform: Platform) -> Named:
            return await self._documents.find(self._place.home, name, platform, self._trail)

        request = replace(self._request, target="")
        planner = Planner(dockerfile, request, prefix=f"{self._prefix}{dockerfile.name}:")
        targets = dict.fromkeys(lowered.stages.values())
        found = await planner.include(
            targets, self._documents.resolve, opened, lambda bases, known: linter.inspect(bases, known, None)
        )
        linter.refuse()
        return {name: found[stage] for name, stage in lowered.stages.items()}

    async def _assembled(self, read: DocumentFile) -> Image:
        """The image of its packages: those of its lock file, if it has one."""
        update = self._request.update_lock
        lock = await self._lock()
        architecture = self._platform.architecture
        pins = pins_for(lock, read, architecture) if lock is not None and not update else None
        image, used = await self._assemble(read, read.document.assembly(pins, None), self._platform, lock)
        epoch = read_epoch(self._request.build_args)
        if epoch is not None and built_at(image) > epoch:  # a later one bounds nothing: the layer stays what it is
            image, _ = await self._assemble(read, read.document.assembly(used, epoch), self._platform, lock)
        if update:
            await self._update(read, lock, used)
        if self._main:
            self._documents.built = built_at(image)
        return image

    async def _assemble(
        self, read: DocumentFile, assembly: Assembly, platform: Platform, lock: LockFile | None = None
    ) -> tuple[Image, tuple[Pin, ...]]:
        try:
            return await self._documents.assemble(assembly, platform)
        except TareError as error:
            if assembly.pins is not None and lock is not None and error.code.startswith("pin-"):
                raise placed_in_lock(error, lock) from error
            raise placed(error, read) from error

    async def _lock(self) -> LockFile | None:
        """The lock file beside it. A damaged one is no matter where it is written anew."""
        name = lock_name(self._place.name)
        text = self._request.lock_text if self._main else None
        if text == "":
            return None
        try:
            if text is None:
                text = await self._text(name)
            return await asyncio.to_thread(read_lock, text, name)
        except NotFound:
            return None
        except TareError:
            if self._request.update_lock:
                return None
            raise

    async def _update(self, read: DocumentFile, lock: LockFile | None, used: tuple[Pin, ...]) -> None:
        """Note the lock file that is to be written, with the packages for all architectures."""
        document = read.document
        before = dict(lock.pins) if lock is not None else {}
        wanted: Sequence[str] = document.architectures or tuple(before)
        known = self._documents.locks.get(self._place)  # of another platform in the same build
        after = {**(known.pins if known is not None else {}), self._platform.architecture: used}
        for architecture in wanted:
            if architecture not in after:
                platform = Platform(self._platform.os, architecture)
                assembly = document.assembly(None, None)
                after[architecture] = (await self._assemble(read, assembly, platform))[1]
        self._documents.locks[self._place] = LockUpdate(
            context=self._place.home.context,
            file=lock_name(self._place.name),
            text=write_lock(document, after),
            beside=self._main,
            changes=changes_between(before, after),
            pins=after,
        )


def built_at(image: Image) -> int:
    """When an assembled image's newest package was built, in seconds."""
    return int(datetime.datetime.fromisoformat(image.config.created or "1970-01-01T00:00:00Z").timestamp())
