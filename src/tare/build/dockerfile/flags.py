"""Flags of instructions: ``--name=value`` between the name and the arguments."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum, auto

from tare.build.dockerfile.errors import Misuse
from tare.build.dockerfile.values import suggestion


class FlagKind(Enum):
    """What a flag takes: nothing or a boolean, one text, or a text each time it is repeated."""

    BOOLEAN = auto()
    TEXT = auto()
    TEXTS = auto()


class Flags:
    """The flags given to one instruction, checked against those that it knows."""

    def __init__(self, given: Iterable[str], known: dict[str, FlagKind]) -> None:
        self._values: dict[str, list[str]] = {}
        for flag in given:
            self._take(flag, known)

    def _take(self, flag: str, known: dict[str, FlagKind]) -> None:
        name, equals, value = flag.removeprefix("--").partition("=")
        mark = f"--{name}"
        kind = known.get(name)
        if kind is None:
            raise Misuse(f"unknown flag: --{name}{suggestion(name, known)}", mark=mark)
        if name in self._values and kind is not FlagKind.TEXTS:
            raise Misuse(f"duplicate flag specified: --{name}", mark=mark)
        if kind is FlagKind.BOOLEAN:
            if equals and not value:
                raise Misuse(f"missing a value on flag: --{name}", mark=mark)
            if value.lower() not in ("", "true", "false"):
                raise Misuse(f"expecting boolean value for flag --{name}, not: {value}", mark=flag)
        elif not equals:
            raise Misuse(f"missing a value on flag: --{name}", mark=mark, hint=f"write --{name}=value")
        self._values.setdefault(name, []).append(value)

    def text(self, name: str, default: str = "") -> str:
        """The flag's value."""
        return self._values.get(name, [default])[0]

    def texts(self, name: str) -> tuple[str, ...]:
        """All values of a flag that may be repeated."""
        return tuple(self._values.get(name, ()))

    def boolean(self, name: str) -> bool | None:
        """True or false as given, None where the flag is absent."""
        if name not in self._values:
            return None
        return self._values[name][0].lower() != "false"
