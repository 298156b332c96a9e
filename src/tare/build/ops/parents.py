"""``COPY --parents``: sources keep their directories (Dockerfile reference, "COPY --parents")."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

from tare.build.ops.rootfs import lstat, resolve
from tare.build.ops.select import Exclude, Filter, Item, Match, Tree, read_xattrs

PIVOT = "/./"
"""What stands before it in a source is left out at the destination."""


def select_with_parents(tree: Tree, sources: Sequence[str], extra: Filter | None = None) -> list[Match]:
    """One directory for each match: the pivot, with the directories on the way and the match itself in it.

    ``**`` in a source stands for any number of directories; ``extra`` has patterns from the pivot on. Raises as
    :meth:`Tree.select` does.
    """
    found: list[Match] = []
    for group, source in enumerate(sources):
        base = source.partition(PIVOT)[0] if PIVOT in source else ""
        depth = len(_parts(base))
        exclude = Exclude(extra, base=resolve(tree.root, base))
        found += [
            replace(_from_pivot(tree, match, depth), group=group) for match in tree.select([source], exclude, deep=True)
        ]
    return found


def _from_pivot(tree: Tree, match: Match, depth: int) -> Match:
    parts = _parts(match.path)
    pivot, below = parts[:depth], parts[depth:]
    items = [_directory(tree, pivot, "")]
    items += [_directory(tree, pivot + below[:count], "/".join(below[:count])) for count in range(1, len(below))]
    prefix = "/".join(below)
    items += [replace(item, rel="/".join(part for part in (prefix, item.rel) if part)) for item in match.items]
    return Match("/".join(pivot), tuple(items[1:] if not prefix else items))


def _directory(tree: Tree, parts: list[str], rel: str) -> Item:
    path = resolve(tree.root, "/".join(parts))
    host = os.path.join(tree.root, path)  # noqa: PTH118 - strings, as in the walk
    status = lstat(tree.root, path)
    assert status is not None, "it leads to a match"
    return Item(rel, host, status, xattrs=read_xattrs(host) if tree.keep_owner else {})


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]
