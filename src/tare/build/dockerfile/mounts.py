"""``RUN --mount=…``: a comma separated list of options (Dockerfile reference, "RUN --mount")."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from dataclasses import dataclass

from tare.build.dockerfile.errors import Misuse
from tare.build.dockerfile.values import parse_bool, parse_size, suggestion
from tare.errors import InvalidArgument

_TYPES = ("bind", "cache", "tmpfs", "secret", "ssh")
_SHARING = ("shared", "private", "locked")
_KEYS = {
    "type": "type",
    "from": "from",
    "source": "source",
    "src": "source",
    "target": "target",
    "dst": "target",
    "destination": "target",
    "readonly": "readonly",
    "ro": "readonly",
    "readwrite": "readwrite",
    "rw": "readwrite",
    "required": "required",
    "size": "size",
    "id": "id",
    "sharing": "sharing",
    "mode": "mode",
    "uid": "uid",
    "gid": "gid",
    "env": "env",
}
_NUMBERS = {"mode": 8, "uid": 10, "gid": 10}
_BARE = ("readonly", "readwrite", "required")
_VARIABLE = re.compile(r"\$.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """One mount of a RUN step.

    ``type`` is ``bind``, ``cache``, ``tmpfs``, ``secret`` or ``ssh``. ``raw`` is the flag's value as written; where
    ``unresolved`` is true it contains variables, the other fields mean nothing yet, and :func:`parse_mount` of ``raw``
    with an expander gives the resolved mount. ``from_`` is empty for the build context. ``size`` is in bytes (0: no
    limit). ``mode``, ``uid``, ``gid`` are None where not given. ``env`` is the variable that a secret is given in, None
    where it is only a file.
    """

    raw: str
    type: str = "bind"
    target: str = ""
    source: str = ""
    from_: str = ""
    readonly: bool = True
    id: str = ""
    sharing: str = ""
    required: bool = False
    size: int = 0
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    env: str | None = None
    unresolved: bool = False


def parse_mount(text: str, expand: Callable[[str], str] | None = None) -> Mount:
    """Read the value of ``--mount``; raises InvalidArgument.

    Without ``expand`` a mount that contains variables is only checked for what needs no values.
    """
    options = _options(text)
    if expand is None and any(_VARIABLE.search(value) for value in options.values()):
        return Mount(raw=text, from_=options.get("from", ""), unresolved=True)
    if expand is not None:
        options = {key: value if key == "from" else expand(value) for key, value in options.items()}
    mount = _build(text, options)
    _check(mount, options)
    return mount


def _options(text: str) -> dict[str, str]:
    """Options by canonical key; a bare ``ro`` or ``required`` has the value ``true``, later ones win."""
    try:
        rows = list(csv.reader([text], strict=True))
    except csv.Error as error:
        raise Misuse(f"failed to parse csv mounts: {error}", mark=text) from error
    options: dict[str, str] = {}
    for field in rows[0] if rows else []:
        key, equals, value = field.partition("=")
        name = _KEYS.get(key.lower())
        if name is None:
            if not equals:
                raise Misuse(f"invalid field '{field}' must be a key=value pair", mark=field)
            raise Misuse(f"unexpected key '{key}' in '{field}'{suggestion(key, _KEYS)}", mark=key)
        if not equals and name not in _BARE:
            raise Misuse(f"invalid field '{field}' must be a key=value pair", mark=field)
        if name == "from" and _VARIABLE.search(value):
            raise Misuse("'from' doesn't support variable expansion, define alias stage instead", mark=field)
        if name in ("readonly", "readwrite"):
            options.pop("readwrite" if name == "readonly" else "readonly", None)
        options[name] = value if equals else "true"
    return options


def _build(text: str, options: dict[str, str]) -> Mount:
    kind = options.get("type", "bind").lower()
    if kind not in _TYPES:
        written = options["type"]
        raise Misuse(
            f'unsupported mount type "{written}"{suggestion(kind, _TYPES)}',
            mark=written,
            hint=f"use {', '.join(_TYPES)}",
        )
    sharing = options.get("sharing", "").lower()
    if "sharing" in options and sharing not in _SHARING:
        raise Misuse(f'unsupported sharing value "{sharing}"{suggestion(sharing, _SHARING)}', mark=options["sharing"])
    _allowed(options, "required", kind, ("secret", "ssh"))
    _allowed(options, "size", kind, ("tmpfs",))
    numbers = {key: _number(key, options[key]) for key in _NUMBERS if key in options}
    if "readwrite" in options:
        readonly = not _boolean("readwrite", options["readwrite"])
    elif "readonly" in options:
        readonly = _boolean("readonly", options["readonly"])
    else:
        readonly = kind not in ("cache", "tmpfs")
    return Mount(
        raw=text,
        type=kind,
        target=options.get("target", ""),
        source=options.get("source", ""),
        from_=options.get("from", ""),
        readonly=readonly,
        id=options.get("id", ""),
        sharing=sharing,
        required=_boolean("required", options.get("required", "false")),
        size=_size(options.get("size", "0")),
        mode=numbers.get("mode"),
        uid=numbers.get("uid"),
        gid=numbers.get("gid"),
        env=options.get("env"),
    )


def _check(mount: Mount, options: dict[str, str]) -> None:
    """Which options go together; raises Misuse."""
    if mount.type not in ("secret", "ssh", "cache"):
        for key in _NUMBERS:
            if key in options:
                raise Misuse(f'{key} not allowed for "{mount.type}" type mounts', mark=f"{key}={options[key]}")
    if mount.type == "secret":
        if mount.from_:
            raise Misuse("secret mount should not have a from", mark=f"from={mount.from_}")
        if mount.sharing:
            raise Misuse("secret mount should not define sharing", mark=f"sharing={mount.sharing}")
        if not (mount.source or mount.target or mount.id):
            raise Misuse("invalid secret mount. one of source, target required", mark=mount.raw)
        if mount.source and mount.id:
            raise Misuse("both source and id can't be set", mark=mount.raw)
    elif mount.env is not None:
        raise Misuse(f"unexpected key 'env' for mount type '{mount.type}'", mark="env=")
    if mount.sharing and mount.type != "cache":
        raise Misuse(f"invalid cache sharing set for {mount.type} mount", mark=f"sharing={mount.sharing}")
    if not mount.target and mount.type in ("bind", "cache", "tmpfs"):
        raise Misuse(f"{mount.type} mount requires a target", mark=mount.raw, hint="add target=/path")


def _allowed(options: dict[str, str], key: str, kind: str, kinds: tuple[str, ...]) -> None:
    if key in options and kind not in kinds:
        raise Misuse(f"unexpected key '{key}' for mount type '{kind}'", mark=key)


def _boolean(key: str, value: str) -> bool:
    try:
        return parse_bool(value)
    except InvalidArgument as error:
        raise Misuse(f"invalid value for {key}: {value}", mark=value, hint=error.hint) from error


def _size(value: str) -> int:
    try:
        return parse_size(value)
    except InvalidArgument as error:
        raise Misuse(f"invalid value for size: {value}", mark=value, hint=error.hint) from error


def _number(key: str, value: str) -> int:
    digits = "01234567" if _NUMBERS[key] == 8 else "0123456789"
    if not value or len(value) > 11 or value.strip(digits) or (number := int(value, _NUMBERS[key])) >= 2**32:
        raise Misuse(f"invalid value {value} for {key}", mark=value)
    return number
