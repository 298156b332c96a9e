"""What ``--call`` and ``--check`` ask for."""

from __future__ import annotations

from dataclasses import dataclass

from tare.errors import InvalidArgument

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
