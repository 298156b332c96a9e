"""The build graph: steps as frozen values, made by :mod:`.planner`, worked by :mod:`.solver`.

A step's ``definition`` keeps what goes into its cache key by name, so that a miss can be explained field by field.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tare.build.dockerfile.instructions import InlineFile
from tare.build.dockerfile.source import Source, SourceRange
from tare.build.events import PlannedStep
from tare.build.modes import ModeChange
from tare.build.sources.addresses import redact
from tare.oci.image import ExecutionConfig, History
from tare.store.images import Image

CONTEXT = ""
"""The origin that stands for the build context; any other origin is a named context or a step's id."""

NAMED = "context:"
"""How the origin of a named context that is a tree begins; its name follows."""


def is_context(origin: str) -> bool:
    """Whether an origin is the build context or a named one rather than a step."""
    return origin == CONTEXT or origin.startswith(NAMED)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a step comes from: the text (Dockerfile or an image's ONBUILD trigger) and its lines."""

    source: Source
    range: SourceRange


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What all steps have. ``parent`` is the step whose root file system this one starts from (None: empty).

    ``variables`` are the values of the variables that the instruction names, ``arguments`` the names that ARG declared
    so far: with them a changed key is explained. Neither is part of the key.
    """

    id: str
    stage: str
    text: str
    place: Place
    parent: str | None = None
    variables: Mapping[str, str] = field(default_factory=dict)
    arguments: frozenset[str] = frozenset()

    @property
    def layered(self) -> bool:
        """Whether the step adds a layer."""
        return True

    @property
    def inputs(self) -> tuple[str, ...]:
        """Steps that must be done before this one."""
        return _parents(self)

    def definition(self) -> Mapping[str, Any]:
        """What the step does, apart from its inputs: JSON values by name."""
        raise NotImplementedError


def _parents(step: Step) -> tuple[str, ...]:
    return (step.parent,) if step.parent is not None else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceStep(Step):
    """``FROM image``: the layers of an image; ``image`` None is ``scratch``."""

    reference: str
    image: Image | None

    @property
    def layered(self) -> bool:
        """No layer of its own."""
        return False

    def definition(self) -> Mapping[str, Any]:
        """The layers by content: two tags of one image are one source."""
        return {"op": "source", "layers": [str(d) for d in self.image.diff_ids] if self.image else []}


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigStep(Step):
    """An instruction that changes the configuration only."""

    @property
    def layered(self) -> bool:
        """No layer."""
        return False

    def definition(self) -> Mapping[str, Any]:
        """Nothing that a later file system depends on: RUN steps name the values that they see."""
        return {"op": "config"}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunMount:
    """A ``--mount`` of a RUN step: kind is ``bind``, ``cache``, ``tmpfs``, ``secret`` or ``ssh``.

    ``origin`` is CONTEXT or a step (of a cache: where its first content comes from, if ``from_image``). ``name`` is the
    id of a cache, secret or agent. A secret without ``target`` is given in the environment ``variable`` only. ``mode``
    and owner are None where the Dockerfile does not say; ``size`` is in bytes, 0 for no limit.
    """

    kind: str
    target: str
    source: str = "/"
    origin: str = CONTEXT
    origin_name: str = ""
    from_image: bool = False
    read_only: bool = True
    name: str = ""
    sharing: str = "shared"
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    size: int = 0
    required: bool = False
    variable: str = ""

    @property
    def has_origin(self) -> bool:
        """Whether files of the context or of a step are shown."""
        return self.kind == "bind" or self.from_image

    def definition(self) -> Mapping[str, Any]:
        """The mount without its content: what a secret, an agent or a cache holds does not count."""
        return {
            "kind": self.kind,
            "target": self.target,
            "source": self.source,
            "read_only": self.read_only,
            "name": self.name,
            "variable": self.variable,
            "attributes": [self.mode, self.uid, self.gid, self.size],
        }


@dataclass(frozen=True, slots=True)
class Script:
    """A heredoc that is executed: where it is seen, and its text."""

    path: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStep(Step):
    """``RUN``. ``secret_env`` reaches the command but neither key nor history (the predefined proxy arguments)."""

    argv: tuple[str, ...]
    env: tuple[str, ...]
    script: Script | None = None
    secret_env: tuple[str, ...] = ()
    cwd: str = "/"
    user: str = ""
    network: str = "default"
    insecure: bool = False
    mounts: tuple[RunMount, ...] = ()

    @property
    def inputs(self) -> tuple[str, ...]:
        """The parent and the steps that mounts show."""
        return _parents(self) + tuple(m.origin for m in self.mounts if not is_context(m.origin))

    def definition(self) -> Mapping[str, Any]:
        """Command, environment, user, directory, network and mounts."""
        return {
            "op": "run",
            "argv": list(self.argv),
            "script": self.script.text if self.script else "",
            "env": list(self.env),
            "cwd": self.cwd,
            "user": self.user,
            "network": self.network,
            "insecure": self.insecure,
            "mounts": [dict(mount.definition()) for mount in self.mounts],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyStep(Step):
    """``COPY`` and ``ADD``: ``sources`` are patterns in ``origin``; ``destination`` is absolute, a slash may end it."""

    sources: tuple[str, ...]
    destination: str
    origin: str = CONTEXT
    origin_name: str = ""
    chown: str = ""
    chmod: ModeChange | None = None
    exclude: tuple[str, ...] = ()
    parents: bool = False
    inline: tuple[InlineFile, ...] = ()
    unpack: bool = False
    downloads: tuple[str, ...] = ()
    unpack_downloads: bool = False
    keep_git_dir: bool = False
    checksum: str = ""

    @property
    def inputs(self) -> tuple[str, ...]:
        """The parent and the step that files come from."""
        return _parents(self) + (() if is_context(self.origin) else (self.origin,))

    def definition(self) -> Mapping[str, Any]:
        """Names and options; what the names stand for is the content key."""
        found: dict[str, Any] = {
            "op": "copy",
            "sources": list(self.sources),
            "destination": self.destination,
            "chown": self.chown,
            "chmod": [self.chmod.octal, self.chmod.clauses] if self.chmod else None,
            "exclude": list(self.exclude),
            "parents": self.parents,
            "inline": [[item.name, item.content] for item in self.inline],
            "unpack": self.unpack,
            "downloads": [redact(text) for text in self.downloads],
        }
        if self.unpack_downloads:
            found["unpack_downloads"] = True
        return found


def in_context(step: Step, origin: str, name: str) -> Step:
    """``step`` with the named context ``origin`` in place of the build context, called ``name`` in errors."""
    if isinstance(step, CopyStep) and step.origin == CONTEXT:
        return replace(step, origin=origin, origin_name=name)
    if isinstance(step, RunStep):
        mounts = (
            replace(mount, origin=origin, origin_name=name) if mount.has_origin and mount.origin == CONTEXT else mount
            for mount in step.mounts
        )
        return replace(step, mounts=tuple(mounts))
    return step


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkdirStep(Step):
    """``WORKDIR``: makes the directory where it is missing, owned by ``user``."""

    path: str
    user: str = ""

    def definition(self) -> Mapping[str, Any]:
        """Path and owner."""
        return {"op": "workdir", "path": self.path, "user": self.user}


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A history entry to be: ``step`` dates it; ``empty`` when it adds no layer."""

    step: str
    created_by: str
    empty: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class StageOutput:
    """What a stage ends as: its configuration, the step with its root file system, and its history.

    ``variables`` are what words are expanded with and what RUN sees, by the instruction that came last, ARG or ENV;
    ``args`` are the declared ARGs with their values. Both are handed down to the stages that stand on this one.
    """

    name: str
    config: ExecutionConfig
    tip: str
    author: str = ""
    architecture: str = ""
    base_history: tuple[History, ...] = ()
    history: tuple[Written, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    args: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Included:
    """A stage of another file that takes part in a plan: its ``steps``, those of them to show, and what it ends as.

    Several stages of one file have the same ``steps`` and ``shown``. ``consumed`` are the build arguments that it used.
    """

    steps: tuple[Step, ...]
    shown: tuple[Step, ...]
    output: StageOutput
    consumed: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All steps that the target needs; a step's inputs come before it."""

    steps: tuple[Step, ...]
    shown: tuple[PlannedStep, ...]
    output: StageOutput
    warnings: tuple[str, ...] = ()
    by_id: Mapping[str, Step] = field(default_factory=dict)

    def anew(self, *, no_cache: bool, stages: Collection[str]) -> frozenset[str]:
        """The steps that must not be looked up: all, or those of ``stages`` and the RUN steps that stand on them.

        A RUN step's result includes what lies below it; COPY and WORKDIR make layers of their own, which may stay.
        """
        if no_cache:
            return frozenset(self.by_id)
        wanted = {stage.lower() for stage in stages}
        forced: set[str] = set()
        shaken: set[str] = set()
        for step in self.steps:
            if step.stage in wanted and step.layered:
                forced.add(step.id)
                shaken.add(step.id)
            elif step.parent in shaken:
                shaken.add(step.id)
                if isinstance(step, RunStep):
                    forced.add(step.id)
        return frozenset(forced)
