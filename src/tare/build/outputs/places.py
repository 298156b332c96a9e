"""Files that appear whole or not at all, for the user who asked for them."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from tare.errors import Exhausted, Forbidden, InvalidArgument, NotFound, TareError

Owner = tuple[int, int]


@contextlib.contextmanager
def whole_file(destination: str, owner: Owner | None) -> Iterator[BinaryIO]:
    """A file that takes its name when the block ends well; blocks. Devices and pipes are written directly.

    Raises NotFound, Forbidden, Exhausted, InvalidArgument naming the path.
    """
    path = Path(destination)
    with naming(destination):
        if path.exists() and not path.is_file():
            if path.is_dir():
                raise InvalidArgument(f"{destination}: is a directory", hint="dest= names a file")
            with path.open("wb") as direct:
                yield direct
            return
        if not path.parent.is_dir():
            raise NotFound(f"{path.parent}: no such directory", hint="make it first")
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        try:
            with temporary.open("xb") as stream:
                yield stream
            if owner is not None:
                os.chown(temporary, *owner)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def naming(destination: str) -> Iterator[None]:
    """Errors of the operating system as ours, with the destination's name."""
    try:
        yield
    except OSError as error:
        raise _named(destination, error) from error


def _named(destination: str, error: OSError) -> TareError:
    text = f"cannot write {destination}: {error.strerror}"
    if isinstance(error, PermissionError):
        return Forbidden(text, hint="choose a place that the engine may write to")
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return NotFound(text, hint="make the directory first")
    return Exhausted(text, hint="free some space, or choose another place")
