"""What ``cp`` copies where: the grammar of its arguments and the rules of its destinations (Docker's ``cp``)."""

from __future__ import annotations

import os
import posixpath
import stat
from dataclasses import dataclass
from pathlib import Path

from tare.errors import InvalidArgument, NotFound

GO_DIRECTORY, GO_LINK, GO_DEVICE, GO_CHARACTER = 1 << 31, 1 << 27, 1 << 26, 1 << 21
"""Bits of Go's ``os.FileMode``, in which the API gives modes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A source or a destination; ``rename`` is what its copy is called where that differs from its last part."""

    path: str
    exists: bool = True
    is_directory: bool = False
    rename: str = ""


def split_argument(text: str) -> tuple[str, str]:
    """``CONTAINER:PATH`` as a pair; the container is empty for a local path (absolute, or with a dot in front)."""
    container, colon, path = text.partition(":")
    if text.startswith("/") or not colon or container.startswith("."):
        return "", text
    return container, path


def ends_in_dot(path: str) -> bool:
    """Whether the path names what is in a directory, not the directory."""
    return path == "." or path.endswith("/.")


def split_entry(path: str) -> tuple[str, str]:
    """Directory and last part of a path; the last part stays ``.`` where the path ends so."""
    cleaned = _clean(path)
    if ends_in_dot(path):
        return cleaned, "."
    directory, name = posixpath.split(cleaned)
    return directory or ".", name or "/"


def _clean(path: str) -> str:
    cleaned = posixpath.normpath(path) if path else "."
    return cleaned[1:] if cleaned.startswith("//") else cleaned


def absolute(path: str) -> str:
    """A local path made absolute; a last ``/`` or ``/.`` stays."""
    whole = _clean(posixpath.join(os.getcwd(), path))  # noqa: PTH109 - plain strings
    if ends_in_dot(path):
        return f"{whole.rstrip('/')}/."
    return f"{whole}/" if path.endswith("/") and whole != "/" else whole


def rebase(path: str, resolved: str) -> tuple[str, str]:
    """What ``resolved``, the target of the link ``path``, is read as and what its copy is called."""
    if ends_in_dot(path) and not ends_in_dot(resolved):
        resolved += "/."
    if path.endswith("/") and not resolved.endswith("/"):
        resolved += "/"
    name = posixpath.basename(path.rstrip("/"))
    return resolved, name if name != posixpath.basename(resolved.rstrip("/")) else ""


def target_of(source: Place, destination: Place) -> tuple[str, str]:
    """The directory to unpack into and the name that the source has there (empty: its own).

    Raises InvalidArgument where the destination does not fit the source.
    """
    if destination.exists and destination.is_directory:
        return destination.path, ""
    if destination.exists and source.is_directory:
        raise InvalidArgument("cannot copy directory", hint="the destination is a file")
    asserts_directory = destination.path.endswith("/") or ends_in_dot(destination.path)
    if not destination.exists and not source.is_directory and asserts_directory:
        raise InvalidArgument("no such directory", hint="make it first")
    return split_entry(destination.path)


def local_source(path: str, *, follow: bool) -> Place:
    """The local file or directory ``path``. Raises NotFound, InvalidArgument."""
    rename = ""
    try:
        if follow:
            resolved, rename = rebase(path, os.path.realpath(path, strict=True))
        else:
            directory, name = posixpath.split(path)
            resolved = posixpath.join(os.path.realpath(directory, strict=True), name)
            if path.endswith("/") and posixpath.basename(_clean(path)) != posixpath.basename(_clean(resolved)):
                rename = posixpath.basename(_clean(path))
        status = os.lstat(resolved)
    except FileNotFoundError as error:
        raise NotFound(f"lstat {path.rstrip('/') or path}: no such file or directory") from error
    except OSError as error:
        raise InvalidArgument(f"lstat {path}: {(error.strerror or '').lower()}") from error
    return Place(path=resolved, is_directory=stat.S_ISDIR(status.st_mode), rename=rename)


def check_output(path: str) -> None:
    """Refuse a local destination that cannot be written to. Raises NotFound, InvalidArgument."""
    directory = posixpath.dirname(_clean(path)) or "."
    if not Path(directory).exists():
        raise NotFound(f'invalid output path: directory "{directory}" does not exist', hint="make it first")
    if Path(path).exists() and not (Path(path).is_dir() or Path(path).is_file()):
        kind = "a device" if Path(path).is_block_device() or Path(path).is_char_device() else "an irregular file"
        raise InvalidArgument(f'invalid output path: "{path}" must be a directory or a regular file: got {kind}')


def local_destination(path: str) -> Place:
    """The local place ``path``, links followed. Raises InvalidArgument when it can be no destination."""
    for _ in range(255):
        try:
            status = os.lstat(path)
        except FileNotFoundError:
            parent = split_entry(path)[0]
            if not Path(parent).is_dir():
                raise InvalidArgument(f"{parent}: not a directory") from None
            return Place(path=path, exists=False)
        except OSError as error:
            raise InvalidArgument(f"lstat {path}: {(error.strerror or '').lower()}") from error
        if not stat.S_ISLNK(status.st_mode):
            return Place(path=path, is_directory=stat.S_ISDIR(status.st_mode))
        path = posixpath.join(posixpath.dirname(path), os.readlink(path))  # noqa: PTH115
    raise InvalidArgument(f"{path}: too many levels of symbolic links")
