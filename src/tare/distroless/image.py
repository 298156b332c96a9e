"""The tree of a distroless image."""

from __future__ import annotations

from collections.abc import Sequence

from tare.archive.filetree import FileTree
from tare.distroless.deb import Deb
from tare.distroless.recipes import Recipe


def distroless_tree(debs: Sequence[Deb], recipe: Recipe, architecture: str, newest: int) -> FileTree:
    raise NotImplementedError
