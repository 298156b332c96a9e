"""Why a step runs: values that events and reports carry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

CauseKind = Literal[
    "new", "removed", "no-cache", "instruction", "path", "arg", "env", "base", "parent", "mount", "source",
    "user", "directory", "shell", "network", "output", "landing",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Cause:
    """One input that differs: its ``kind``, its name (path, variable, step, image …), and a sentence about it."""

    kind: CauseKind
    subject: str
    text: str
