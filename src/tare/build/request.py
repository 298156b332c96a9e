"""What a build is asked to do and what it gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from tare.build.assembly.lockfile import LockUpdate
from tare.build.checks.findings import CheckReport, Finding
from tare.build.outline import Outline, Targets
from tare.build.reasons.causes import Cause
from tare.model import Digest, Platform, Reference
from tare.model.assembly import Assembled, Assembly
from tare.oci.image import Descriptor
from tare.store.images import Image


class Progress(Protocol):
    """Something long is under way; called on the event loop."""

    def __call__(self, identifier: str, text: str, current: int = 0, total: int = 0, /) -> None:
        """``text`` is the state of ``identifier``; a transfer also tells its bytes (0: not known)."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputRequest:
    """One ``--output``.

    ``type`` is ``image``, ``local``, ``tar``, ``oci``, ``docker`` or ``cacheonly``; ``destination`` an absolute path on
    this host (empty where the type needs none); ``attributes`` are the others as given. What is written there belongs
    to ``owner`` (uid, gid; None: to the engine).
    """

    type: str
    destination: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)
    owner: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ulimit:
    """A resource limit of RUN steps, as ``--ulimit name=soft:hard``."""

    name: str
    soft: int
    hard: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRequest:
    """One build.

    ``context`` is a directory (None: the build has none), ``dockerfile`` the text and ``dockerfile_name`` what errors
    call it. A build argument without value (None) is taken as not given. ``ignore_text`` replaces the context's
    ``.dockerignore`` (None: read ``.dockerignore`` in the context). ``shm_size`` is in bytes.

    ``contexts`` are the named contexts as given (``--build-context``), ``secrets`` contents by id, ``ssh`` paths of an
    agent's socket or of private keys by id, ``allow`` granted entitlements (``security.insecure``, ``network.host``).
    ``no_cache_stages`` are stages to run anew. ``check`` only lints, ``describe`` only lists the targets or what the
    target takes (its ``outline``), and ``plan_only`` only says what would run; ``why`` explains each step that runs by
    what ``project`` was when it was last built, ``keep_failed`` keeps a failed step's file system, ``budget`` is the
    most bytes that the image may weigh (0: any).

    A ``dockerfile_name`` that ends in ``.yaml`` or ``.yml`` makes it a declarative file (:mod:`tare.build.assembly`).
    ``lock_text`` is its lock file where that is not in the context (empty: it has none), ``update_lock`` resolves
    packages anew whatever is locked.
    """

    context: Path | None
    dockerfile: str
    dockerfile_name: str = "Dockerfile"
    target: str = ""
    build_args: Mapping[str, str | None] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    tags: tuple[Reference, ...] = ()
    no_cache: bool = False
    pull: bool = False
    network: Literal["default", "none", "host"] = "default"
    extra_hosts: tuple[str, ...] = ()
    platform: Platform | None = None
    shm_size: int = 64 << 20
    host_ca: bool = True
    ignore_text: str | None = None
    contexts: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    ssh: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    allow: frozenset[str] = frozenset()
    no_cache_stages: tuple[str, ...] = ()
    outputs: tuple[OutputRequest, ...] = ()
    annotations: Mapping[str, str] = field(default_factory=dict)
    ulimits: tuple[Ulimit, ...] = ()
    check: bool = False
    describe: Literal["", "targets", "outline"] = ""
    plan_only: bool = False
    why: bool = False
    project: str = ""
    keep_failed: bool = False
    budget: int = 0
    lock_text: str | None = None
    update_lock: bool = False

    @property
    def is_declarative(self) -> bool:
        """Whether a declarative file is built rather than a Dockerfile."""
        return self.dockerfile_name.endswith((".yaml", ".yml"))


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerLine:
    """The weight of one step in bytes of what it added; ``shipped`` when it is part of the image.

    ``rewritten`` are bytes of the layers below that the step replaced or deleted: they were written twice, or for
    nothing. ``file`` and ``line`` (from 1) tell where the instruction stands.
    """

    stage: str
    name: str
    text: str
    bytes: int
    shipped: bool
    cached: bool
    rewritten: int = 0
    file: str = ""
    line: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildResult:
    """A finished build; ``ledger`` is the weigh-in, in the order of the Dockerfile.

    ``image_id`` is the digest of the configuration, also where the image is not stored; None where nothing was built.
    ``manifest`` describes the archive that was written, ``names`` are what the image is called in the store.
    ``findings`` are those of the build checks, ``report`` is the answer to a request that only checks or
    describes. ``locks`` are lock files for the client to write.
    """

    image_id: Digest | None
    manifest: Descriptor | None = None
    names: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    ledger: tuple[LedgerLine, ...] = ()
    findings: tuple[Finding, ...] = ()
    report: CheckReport | Targets | Outline | None = None
    locks: tuple[LockUpdate, ...] = ()

    @property
    def shipped(self) -> int:
        """Bytes that are in the image."""
        return sum(line.bytes for line in self.ledger if line.shipped)

    @property
    def rewritten(self) -> int:
        """Bytes in the image that no container can see, as a later layer replaces or deletes them."""
        return sum(line.rewritten for line in self.ledger if line.shipped)

    @property
    def left_behind(self) -> int:
        """Bytes that the build made and the image does not have."""
        return sum(line.bytes for line in self.ledger if not line.shipped)


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastLine:
    """A step of a plan: whether it would ``run``, is ``cached``, or ``depends`` on output that is yet to come."""

    id: str
    stage: str
    name: str
    text: str
    line: int
    verdict: Literal["run", "cached", "depends"]
    causes: tuple[Cause, ...] = ()


class SourceResolver(Protocol):
    """Finds the images that a Dockerfile names, and makes those that are described."""

    async def resolve(
        self, reference: Reference, platform: Platform, progress: Progress, *, refresh: bool = False
    ) -> Image:
        """The image from the local store, else assembled or pulled into it; ``refresh`` asks its origin first.

        The image stays usable while the caller works: it is tagged, or the caller takes it into a lease at once.
        Raises NotFound with Docker's words, Unavailable when its origin does not answer.
        """
        ...

    async def assemble_packages(
        self, assembly: Assembly, platform: Platform, progress: Progress, *, lease: str
    ) -> Assembled:
        """The image that ``assembly`` describes, in the local store without a name, and the packages in it.

        ``lease`` holds the image; the caller removes it when it is used no more. Raises what is wrong with the assembly
        (NotFound, Conflict, InvalidArgument, Unsupported), Unavailable without archive, DataCorrupt.
        """
        ...
