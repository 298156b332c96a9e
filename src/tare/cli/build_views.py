"""Which view shows a build."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from tare.errors import InvalidArgument

MODES = ("auto", "plain", "tty", "tree", "json", "rawjson", "quiet")


def progress_mode(given: str | None, environ: Mapping[str, str], *, quiet: bool) -> str:
    """One of MODES without ``auto``: the option, else ``BUILDKIT_PROGRESS``. Raises InvalidArgument."""
    mode = given or environ.get("BUILDKIT_PROGRESS") or "auto"
    if mode not in MODES:
        raise InvalidArgument(f'BUILDKIT_PROGRESS="{mode}" is no progress mode', hint=f"use {', '.join(MODES)}")
    if quiet:
        if given not in (None, "auto", "quiet"):
            raise InvalidArgument(f"progress={mode} and quiet cannot be used together", hint="remove one of them")
        return "quiet"
    if mode == "auto":
        return "tree" if sys.stderr.isatty() else "plain"
    return {"tty": "tree", "rawjson": "json"}.get(mode, mode)


def make_view(mode: str) -> Any:
    """The view for a mode of :func:`progress_mode`: a context manager with ``show``."""
    from tare.cli.build_plain import JsonView, PlainView, QuietView

    if mode == "tree":
        from tare.cli.build_tree import TreeView

        return TreeView()
    return {"plain": PlainView, "json": JsonView, "quiet": QuietView}[mode]()
