"""``-e``, ``--env-file`` and label options."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from tare.errors import InvalidArgument, NotFound

_WHITE = " \t"


def read_env(values: Iterable[str], files: Iterable[str], environ: Mapping[str, str] | None = None) -> list[str]:
    """Variables of files, then of options; a name alone takes the value from ``environ`` (default: the process's).

    A name that is not set there is left out. Raises NotFound, InvalidArgument naming file and line.
    """
    known = os.environ if environ is None else environ
    found: list[str] = []
    for name in files:
        found += _resolve(_read_lines(Path(name)), known)
    for value in values:
        if not value or value.startswith("="):
            raise InvalidArgument(f'invalid argument "{value}" for "-e, --env": invalid environment variable: {value}')
    return found + _resolve(values, known)


def _resolve(values: Iterable[str], known: Mapping[str, str]) -> list[str]:
    return [value if "=" in value else f"{value}={known[value]}" for value in values if "=" in value or value in known]


def _read_lines(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise NotFound(f"open {path}: no such file or directory") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"env file {path}: {error}") from error
    found = []
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.lstrip(_WHITE)
        if not line or line.startswith("#"):
            continue
        name = line.partition("=")[0]
        if not name:
            raise InvalidArgument(f"{path}:{number}: no variable name on line {line!r}")
        if any(char in name for char in _WHITE):
            raise InvalidArgument(f"{path}:{number}: variable {name!r} contains whitespaces")
        found.append(line)
    return found


def read_labels(values: Iterable[str], files: Iterable[str] = ()) -> dict[str, str]:
    """``KEY[=VALUE]`` options, those of files first."""
    lines = [line for name in files for line in _read_lines(Path(name))]
    return {key: value for key, _, value in (text.partition("=") for text in [*lines, *values])}
