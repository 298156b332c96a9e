"""``config.json`` of Docker's command line: read, and changed without losing what others keep in it."""

from __future__ import annotations

import base64
import binascii
import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tare.client.registry_auth import RegistryAuth
from tare.errors import Forbidden, InvalidArgument

DIRECTORY_VARIABLE = "DOCKER_CONFIG"
CODE = "client-config"
Document = dict[str, Any]


def config_path(environ: Mapping[str, str] | None = None) -> Path:
    """Where the configuration is: below ``DOCKER_CONFIG``, else in ``~/.docker``."""
    known = os.environ if environ is None else environ
    return Path(known.get(DIRECTORY_VARIABLE) or Path.home() / ".docker") / "config.json"


def read_config(path: Path) -> Document:
    """The configuration; empty when there is none. Raises InvalidArgument when it cannot be read."""
    try:
        return parse_config(path.read_bytes(), str(path))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise InvalidArgument(f"{path}: {error.strerror}", hint="correct the file's mode", code=CODE) from error


def parse_config(data: bytes | str, where: str) -> Document:
    """A configuration from its text. Raises InvalidArgument that names ``where``."""
    if not data.strip():
        return {}
    try:
        document = json.loads(data)
    except ValueError as error:
        # The decoder's words name a place and no content: passwords stay where they are.
        raise InvalidArgument(f"{where}: not JSON: {error}", hint="correct the file", code=CODE) from error
    wrong = "the file" if not isinstance(document, dict) else _wrong_member(document)
    if wrong:
        raise InvalidArgument(f"{where}: {wrong} is not a JSON object", hint="correct the file", code=CODE)
    return dict(document)


def _wrong_member(document: Document) -> str:
    for name in ("auths", "credHelpers"):
        members = document.get(name) or {}
        if not isinstance(members, dict):
            return name
        for key, value in members.items():
            if name == "auths" and not isinstance(value, dict):
                return f"{name}.{key}"
    return ""


def auth_of(entry: Mapping[str, Any], key: str, where: str) -> RegistryAuth:
    """Credentials from a member of ``auths``. Raises InvalidArgument for an ``auth`` that is none."""
    username, password = str(entry.get("username") or ""), str(entry.get("password") or "")
    if encoded := entry.get("auth"):
        try:
            text = base64.b64decode(str(encoded), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError) as error:
            raise _bad_auth(key, where) from error
        username, colon, password = text.partition(":")
        if not (colon and username):
            raise _bad_auth(key, where)
        password = password.strip("\0")
    return RegistryAuth(
        username=username,
        password=password,
        server=key,
        identity_token=str(entry.get("identitytoken") or ""),
        registry_token=str(entry.get("registrytoken") or ""),
    )


def _bad_auth(key: str, where: str) -> InvalidArgument:
    return InvalidArgument(
        f"{where}: auths.{key}.auth is not the base64 of user:password", hint="log in again", code=CODE
    )


def entry_of(auth: RegistryAuth) -> Document:
    """Credentials as a member of ``auths``."""
    entry = {}
    if auth.username or auth.password:
        entry["auth"] = base64.b64encode(f"{auth.username}:{auth.password}".encode()).decode()
    if auth.identity_token:
        entry["identitytoken"] = auth.identity_token
    if auth.registry_token:
        entry["registrytoken"] = auth.registry_token
    return entry


def change_config(path: Path, change: Callable[[Document], None]) -> bool:
    """Let ``change`` alter the configuration and write it, readable for its owner alone; returns whether it did.

    Members that nobody knows stay as they are, a symbolic link stays one, and no other change through this function is
    lost. Raises InvalidArgument when the present content cannot be read, Forbidden when the file cannot be written.
    """
    place = Path(os.path.realpath(path))
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _locked(place.parent):
            before = read_config(place)
            document = json.loads(json.dumps(before))
            change(document)
            if document == before:
                return False
            _write(place, json.dumps(document, indent="\t", ensure_ascii=False))
    except OSError as error:
        raise Forbidden(
            f"cannot write {place}: {error.strerror}", hint="make the directory writable", code=CODE
        ) from error
    return True


def _write(place: Path, text: str) -> None:
    from tare.base.atomic import atomic_writer

    with atomic_writer(place, mode=0o600) as stream:
        if place.exists():
            owner = place.stat()
            if (owner.st_uid, owner.st_gid) != (os.geteuid(), os.getegid()) and os.geteuid() == 0:
                os.fchown(stream.fileno(), owner.st_uid, owner.st_gid)  # root writes for somebody else
        stream.write(text.encode())


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Hold the directory's lock: nothing is left in it, as a lock file would be."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
