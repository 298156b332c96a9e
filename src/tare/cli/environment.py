"""``-e``, ``--env-file`` and label options."""

from __future__ import annotations

import codecs
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from tare.cli.flags import flag_error
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
            raise flag_error(value, "-e, --env", f"invalid environment variable: {value}")
    return found + _resolve(values, known)


def _resolve(values: Iterable[str], known: Mapping[str, str]) -> list[str]:
    return [value if "=" in value else f"{value}={known[value]}" for value in values if "=" in value or value in known]


def _read_lines(path: Path) -> list[str]:
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise NotFound(f"open {path}: no such file or directory") from error
    except IsADirectoryError as error:
        raise InvalidArgument(f"invalid env file ({path}): read {path}: is a directory") from error
    except OSError as error:
        raise InvalidArgument(f"open {path}: {(error.strerror or str(error)).lower()}") from error
    found = []
    for number, raw in enumerate(data.removeprefix(codecs.BOM_UTF8).split(b"\n"), 1):
        try:
            line = raw.removesuffix(b"\r").decode().lstrip(_WHITE)
        except UnicodeDecodeError as error:
            numbers = " ".join(str(byte) for byte in raw)
            raise InvalidArgument(
                f"invalid env file ({path}): invalid utf8 bytes at line {number}: [{numbers}]"
            ) from error
        if not line or line.startswith("#"):
            continue
        name = line.partition("=")[0]
        if not name:
            raise InvalidArgument(
                f"invalid env file ({path}): no variable name on line '{line}'", hint=f"line {number}"
            )
        if any(char in name for char in _WHITE):
            raise InvalidArgument(
                f"invalid env file ({path}): variable '{name}' contains whitespaces", hint=f"line {number}"
            )
        found.append(line)
    return found


def read_labels(values: Iterable[str], files: Iterable[str] = ()) -> dict[str, str]:
    """``KEY[=VALUE]`` options, those of files first."""
    lines = [line for name in files for line in _read_lines(Path(name))]
    lines = [line for line in lines if "=" in line]  # as in Docker: a name alone is no label in a file
    return {key: value for key, _, value in (text.partition("=") for text in [*lines, *values])}
