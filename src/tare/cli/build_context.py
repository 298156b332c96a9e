"""What ``build`` is to be made from: PATH and ``-f``, as buildx reads them."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from tare.errors import InvalidArgument, NotFound

_CHUNK = 256 * 1024
_HEAD = 1024  # bytes that tell an archive from a Dockerfile
_BLOCK, _CHECKSUM_AT = 512, 148  # of a tar header, ustar(5)
_MAGIC = (b"\x1f\x8b\x08", b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd")  # gzip, bzip2, xz, zstd
_SCP = r"[a-zA-Z0-9_-]+@[a-zA-Z0-9.-]+:.*"
_NAME = "Dockerfile"


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What goes into the request, and the tar that follows it (None: nothing does).

    ``lock`` is where the lock file of a declarative file belongs (None: nowhere on this host), ``lock_text`` what it
    says where it does not lie in the context (empty: nothing yet).
    """

    context: str = ""
    remote: str = ""
    dockerfile: str = _NAME
    dockerfile_text: str | None = None
    body: Iterator[bytes] | None = None
    lock: Path | None = None
    lock_text: str | None = None


def read_context(path: str, given: str, stdin: BinaryIO | None = None) -> Context:
    """The context PATH with the Dockerfile ``given`` by ``-f`` (may be empty).

    Raises NotFound, InvalidArgument for combinations that mean nothing.
    """
    if path == "-":
        return _from_stdin(given, stdin or sys.stdin.buffer)
    place = Path(path).absolute()
    if place.is_dir():
        name, text = _dockerfile(place, given, stdin)
        lock = _lock(place, given, name)
        lock_text = _lock_text(lock) if lock is not None and text is not None else None
        return Context(context=str(place), dockerfile=name, dockerfile_text=text, lock=lock, lock_text=lock_text)
    if is_remote(path):
        if given == "-" or Path(given).is_absolute():
            return Context(remote=path, dockerfile_text=_outside(given, stdin), dockerfile=_shown(given))
        return Context(remote=path, dockerfile=given or _NAME)
    cause = "is not a directory" if place.exists() else "not found"
    raise NotFound(f'unable to prepare context: path "{path}" {cause}', hint="name the directory to build")


def is_declarative(name: str) -> bool:
    """Whether ``name`` is that of a declarative file rather than a Dockerfile's."""
    return name.endswith((".yaml", ".yml"))


def _lock(context: Path, given: str, name: str) -> Path | None:
    """Beside the file that ``-f`` names; None for what has no lock file."""
    if not is_declarative(name) or name.startswith(("http://", "https://")):
        return None
    place = Path(given).absolute()
    return (place if place.exists() else context / name).with_suffix(".lock")


def _lock_text(lock: Path) -> str:
    """What is in the lock file of a file outside the context; empty where there is none."""
    try:
        return _decoded(lock.read_bytes(), str(lock))
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise InvalidArgument(f"failed to read {lock}: {error.strerror}") from error


def is_remote(text: str) -> bool:
    """Whether ``text`` is an address rather than a path of this host."""
    return "://" in text or text.startswith("github.com/") or re.fullmatch(_SCP, text) is not None


def _from_stdin(given: str, stdin: BinaryIO) -> Context:
    """A tar with the context, or only a Dockerfile."""
    if given == "-":
        raise InvalidArgument(
            "invalid argument: can't use stdin for both build context and dockerfile", hint="name one of them"
        )
    head = stdin.read(_HEAD)
    if not head:
        raise InvalidArgument("failed to read the context from standard input: it is empty", hint="send a tar")
    if _is_archive(head):
        if Path(given).is_absolute():
            return Context(dockerfile=given, dockerfile_text=_outside(given, None), body=_rest(head, stdin))
        return Context(dockerfile=given or _NAME, body=_rest(head, stdin))
    if given:
        raise InvalidArgument(
            "ambiguous Dockerfile source: both stdin and flag correspond to Dockerfiles",
            hint="leave out -f, or send a tar archive",
        )
    return Context(dockerfile_text=_decoded(head + stdin.read(), "-"))


def _rest(head: bytes, stdin: BinaryIO) -> Iterator[bytes]:
    yield head
    while chunk := stdin.read(_CHUNK):
        yield chunk


def _is_archive(head: bytes) -> bool:
    if head.startswith(_MAGIC):
        return True
    block = head[:_BLOCK]
    field = block[_CHECKSUM_AT : _CHECKSUM_AT + 8]
    digits = field.strip(b" \0")
    if len(block) < _BLOCK or not digits or digits.strip(b"01234567"):
        return False
    return int(digits, 8) == sum(block) - sum(field) + 8 * 32


def _dockerfile(context: Path, given: str, stdin: BinaryIO | None) -> tuple[str, str | None]:
    """Its name in the context, or its name and text when it lies outside."""
    if not given:
        return _NAME, None
    if given == "-":
        return _NAME, _outside(given, stdin)
    if given.startswith(("http://", "https://")):
        return given, None
    place = Path(given).absolute()
    inside = Path(os.path.relpath(place, context))
    if not place.exists() and (context / given).exists():
        return given, None
    if ".." in inside.parts:
        return given, _outside(given, stdin)
    if not place.exists():
        raise _missing(place)
    return str(inside), None


def _outside(given: str, stdin: BinaryIO | None) -> str:
    """The text of a Dockerfile that lies outside the context, or is on standard input."""
    if given == "-":
        return _decoded((stdin or sys.stdin.buffer).read(), "-")
    try:
        return _decoded(Path(given).read_bytes(), given)
    except FileNotFoundError as error:
        raise _missing(Path(given).absolute()) from error
    except OSError as error:
        raise InvalidArgument(f"failed to read dockerfile {given}: {error.strerror}") from error


def _shown(given: str) -> str:
    return _NAME if given == "-" else given


def _missing(place: Path) -> NotFound:
    return NotFound(
        f"unable to prepare context: unable to evaluate symlinks in Dockerfile path: {place}: no such file",
        hint="-f names the Dockerfile",
    )


def _decoded(data: bytes, name: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise InvalidArgument(
            f"failed to read dockerfile {name}: {error}", hint="it is neither UTF-8 text nor a tar archive"
        ) from error
