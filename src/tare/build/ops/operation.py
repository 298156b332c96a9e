"""What the solver and the operations say to each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from tare.build.cache import Part, Result
from tare.build.dockerfile.source import Source, SourceRange
from tare.build.graph import CONTEXT, Place
from tare.build.ops.select import Tree
from tare.build.ops.workbench import Workbench
from tare.errors import InvalidArgument, TareError
from tare.model.execution import Limit

Emit = Callable[[Literal["stdout", "stderr"], bytes], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What of the request the operations need; sizes in bytes. ``named`` are trees by their origins.

    ``keep_failed`` keeps a failed step in any case.
    """

    extra_hosts: tuple[str, ...] = ()
    shm_size: int = 64 << 20
    host_ca: bool = True
    secrets: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    ssh: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    limits: tuple[Limit, ...] = ()
    named: Mapping[str, Tree] = field(default_factory=dict)
    keep_failed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """Everything that a step may use: its parent's chain, the chains of its origins, the context, where output goes.

    ``lease`` holds what the step makes until the cache refers to it. Without ``reuse`` everything is made anew.
    """

    bench: Workbench
    parent: tuple[Part, ...]
    origins: Mapping[str, Result]
    context: Tree | None
    settings: Settings
    emit: Emit
    lease: str
    reuse: bool = True

    def tree(self, origin: str) -> Tree:
        """The build context, or a named one. Raises InvalidArgument for a build without context."""
        found = self.context if origin == CONTEXT else self.settings.named[origin]
        if found is None:
            raise InvalidArgument("this build has no context", hint="give a directory to copy from")
        return found


@dataclass(frozen=True, slots=True)
class Made:
    """What a step added: one part, and how many bytes; ``created`` is when, if that was earlier and it was found.

    ``hidden`` are bytes of files below that it replaces or deletes.
    """

    part: Part
    bytes: int
    created: float | None = None
    hidden: int = 0


def located(error: TareError, place: Place, *, mark: str = "") -> TareError:
    """``error`` with the Dockerfile's line; errors that have one already stay as they are."""
    return locate(error, place.source, place.range, mark=mark)


def locate(error: TareError, source: Source, where: SourceRange, *, mark: str = "") -> TareError:
    """As :func:`located`, the class of the error kept so that callers can still tell what to do."""
    excerpt = source.error(error.message, where, mark=mark)
    new = type(error).__new__(type(error))
    new.__dict__.update(error.__dict__)
    new.message = f"{error.message}\n{source.name}:{excerpt.line}\n{excerpt.excerpt()}"
    new.args = (new.message,)
    return new
