"""Which view shows a build, and what ``--call`` asks for."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tare.errors import InvalidArgument

MODES = ("auto", "plain", "tty", "tree", "json", "rawjson", "quiet")
_METHODS = ("build", "check", "outline", "targets")
_FORMATS = ("text", "json")


@dataclass(frozen=True, slots=True)
class Call:
    """``--call method[,format=text|json][,ignorestatus=true]``."""

    method: str = "build"
    as_json: bool = False
    ignore_status: bool = False

    @classmethod
    def parse(cls, text: str, *, check: bool) -> Call:
        """Read the option; ``--check`` is short for ``--call check``. Raises InvalidArgument."""
        method, *options = text.split(",") if text else ["build"]
        if check and text and method != "check":
            raise InvalidArgument(f"--check and --call {text} ask for different things", hint="give one of them")
        if method in ("lint", "check") or check:
            method = "check"
        if method not in _METHODS:
            raise InvalidArgument(f'invalid --call method "{method}"', hint=f"use {', '.join(_METHODS)}")
        as_json, ignore = False, False
        for option in options:
            name, _, value = option.partition("=")
            if name == "format" and value in _FORMATS:
                as_json = value == "json"
            elif name == "ignorestatus" and value in ("", "true", "false"):
                ignore = value != "false"
            else:
                raise InvalidArgument(
                    f'invalid --call option "{option}"', hint=f"use format={'|'.join(_FORMATS)}, ignorestatus=true"
                )
        return cls(method, as_json, ignore)


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
