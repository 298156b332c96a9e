"""Options of the local driver: Docker's ``type``, ``o``, ``device``, ``size``, and Tare's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tare.base.durations import parse_duration
from tare.errors import InvalidArgument, Unsupported

OWNERSHIP = ("uid", "gid", "mode")
TIMEOUT, RETRIES = "mount-timeout", "mount-retries"
_KNOWN = frozenset({"type", "o", "device", "size", *OWNERSHIP, TIMEOUT, RETRIES})
# What Docker asks for together.
_TOGETHER = (("device", ("type",)), ("type", ("device",)), ("o", ("device", "type")))
NETWORK_TYPES = frozenset({"nfs", "nfs4", "cifs", "smb3", "ceph", "glusterfs", "9p", "virtiofs"})
DEFAULT_SECONDS = 30.0
MAX_ID = (1 << 32) - 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Ownership:
    """What the volume's directory is to be when it is made; None: as it comes."""

    uid: int | None = None
    gid: int | None = None
    mode: int | None = None

    def __bool__(self) -> bool:
        return (self.uid, self.gid, self.mode) != (None, None, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalOptions:
    """A local volume's options, checked.

    ``type`` is empty for a plain directory. ``words`` are the mount options of ``o``. One attempt to mount may take
    ``seconds``; ``retries`` more follow.
    """

    type: str = ""
    device: str = ""
    words: tuple[str, ...] = ()
    ownership: Ownership = Ownership()
    seconds: float = DEFAULT_SECONDS
    retries: int = 0

    @property
    def is_mounted(self) -> bool:
        """Whether something has to be mounted on the directory."""
        return bool(self.type or self.device or self.words)

    @property
    def is_bind(self) -> bool:
        """Whether it is another directory of the host."""
        return bool({"bind", "rbind"} & set(self.words))

    @property
    def mount_words(self) -> tuple[str, ...]:
        """``words``, and for tmpfs the ownership, which its root directory is made with."""
        if self.type != "tmpfs":
            return self.words
        own = self.ownership
        given = (("uid", own.uid), ("gid", own.gid), ("mode", None if own.mode is None else f"{own.mode:o}"))
        return (*self.words, *(f"{name}={value}" for name, value in given if value is not None))


def parse_options(options: Mapping[str, str]) -> LocalOptions:
    """Check and read options of ``-o``. Raises InvalidArgument in Docker's words, Unsupported."""
    for key in options:
        if key not in _KNOWN:
            raise InvalidArgument(f'invalid option: "{key}"', code="invalid-volume-option")
    for key, needed in _TOGETHER:
        for other in needed:
            if key in options and other not in options:
                raise InvalidArgument(f'missing required option: "{other}"', code="invalid-volume-option")
    if options.get("size"):
        raise InvalidArgument(
            "quota size requested but no quota support",
            hint="a size limit needs a file system of its own: use -o type=tmpfs -o device=tmpfs -o o=size=…",
            code="no-quota",
        )
    words = tuple(word for word in options.get("o", "").split(",") if word)
    kind = options.get("type", "")
    parsed = LocalOptions(
        type="none" if not kind and options.get("device") else kind,
        device=options.get("device", ""),
        words=words,
        ownership=parse_ownership(options),
        seconds=_seconds(options.get(TIMEOUT, "")),
        retries=_retries(options.get(RETRIES, ""), 1 if kind in NETWORK_TYPES else 0),
    )
    if parsed.ownership and parsed.is_mounted and parsed.type != "tmpfs":
        raise Unsupported(
            f"uid, gid and mode are not for volumes of type {parsed.type}, whose files have owners already",
            hint="where the file system can: -o o=uid=…,gid=…; or --mount …,idmap for each container",
            code="invalid-volume-option",
        )
    return parsed


def parse_ownership(options: Mapping[str, str]) -> Ownership:
    """Read ``uid``, ``gid`` (decimal) and ``mode`` (octal). Raises InvalidArgument."""
    values: dict[str, int] = {}
    for name in OWNERSHIP:
        text = options.get(name)
        if text is None:
            continue
        base, limit = (8, 0o7777) if name == "mode" else (10, MAX_ID)
        try:
            number = int(text, base) if text.isascii() and text.isdigit() else -1
        except ValueError:
            number = -1
        if not 0 <= number <= limit:
            what = "an octal number up to 7777" if name == "mode" else f"a number from 0 to {MAX_ID}"
            raise InvalidArgument(
                f'invalid value for option "{name}": {text!r} is not {what}', code="invalid-volume-option"
            )
        values[name] = number
    return Ownership(uid=values.get("uid"), gid=values.get("gid"), mode=values.get("mode"))


def _seconds(text: str) -> float:
    if not text:
        return DEFAULT_SECONDS
    seconds = parse_duration(text) or 0.0
    if not 0 < seconds <= 3600:
        raise InvalidArgument(
            f'invalid value for option "{TIMEOUT}": {text!r}',
            hint="write 500ms, 30s or 2m",
            code="invalid-volume-option",
        )
    return seconds


def _retries(text: str, default: int) -> int:
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and int(text) <= 100):
        raise InvalidArgument(f'invalid value for option "{RETRIES}": {text!r}', code="invalid-volume-option")
    return int(text)
