"""What a build tells while it runs; values that the API and the command line print in their own ways."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tare.build.checks.findings import Finding
from tare.build.reasons.causes import Cause
from tare.model import Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedStep:
    """A step of the plan.

    ``name`` is as BuildKit prints it (``[backend 2/5] RUN make``), ``text`` the instruction. ``index`` counts all
    steps of the plan from 1, ``total`` is their number. ``layered`` is false for steps that only configure.
    """

    id: str
    index: int
    total: int
    stage: str
    name: str
    text: str
    layered: bool


@dataclass(frozen=True, slots=True)
class PlanMade:
    """The steps that the target needs, in the order of the Dockerfile."""

    vertices: tuple[PlannedStep, ...]


@dataclass(frozen=True, slots=True)
class VertexStarted:
    """A step has begun: its cache key is known and is being looked up, or it runs."""

    id: str
    name: str
    stage: str
    index: int


@dataclass(frozen=True, slots=True)
class VertexOutput:
    """Output of a step as it came."""

    id: str
    stream: Literal["stdout", "stderr"]
    data: bytes


@dataclass(frozen=True, slots=True)
class VertexDone:
    """A step has ended well; ``seconds`` of wall time, ``bytes`` added, ``result`` an identifier to show."""

    id: str
    index: int
    cached: bool
    seconds: float
    bytes: int
    result: str = ""


@dataclass(frozen=True, slots=True)
class VertexFailed:
    """A step has failed; the build raises the same error."""

    id: str
    index: int
    error: str


@dataclass(frozen=True, slots=True)
class StepExplained:
    """Whether a step runs, and why (``--why``, ``--plan``).

    ``cached`` steps have no causes. ``depends`` is a forecast only: whether the step runs shows when the steps that the
    causes name have run.
    """

    id: str
    verdict: Literal["run", "cached", "depends"]
    causes: tuple[Cause, ...]


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that the user should read; ``id`` names the step or object that it is about (may be empty).

    ``current`` of ``total`` bytes have been transferred, where it is about a transfer.
    """

    text: str
    id: str = ""
    level: Literal["info", "warning"] = "info"
    current: int = 0
    total: int = 0


@dataclass(frozen=True, slots=True)
class BuildFinished:
    """The image is in the store under ``tags``."""

    image_id: Digest
    tags: tuple[str, ...]


BuildEvent = (
    PlanMade
    | VertexStarted
    | VertexOutput
    | VertexDone
    | VertexFailed
    | StepExplained
    | Notice
    | Finding
    | BuildFinished
)
