"""Log drivers and their options: what Docker accepts, in Docker's words, and what is done about it.

``json-file`` and ``local`` are both kept in conmon's format and rotated; they differ in their options and in whether
rotated files are compressed by default. Reference: Docker's documentation of ``--log-driver`` and ``--log-opt``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote_plus

from tare.errors import InvalidArgument, Unavailable
from tare.model.container import Container, LogConfig

JOURNAL_SOCKET = Path("/run/systemd/journal/socket")
DRIVERS = ("json-file", "local", "journald", "none")
FILE_DRIVERS = frozenset({"json-file", "local"})
DEFAULT_DRIVER = "json-file"
DEFAULT_MAX_SIZE = 20_000_000
DEFAULT_MAX_FILES = 5

_ATTRIBUTES = frozenset({"labels", "labels-regex", "env", "env-regex", "tag"})
_ROTATION = frozenset({"max-size", "max-file", "compress"})
_KNOWN = {
    "json-file": _ATTRIBUTES | _ROTATION,
    "local": _ATTRIBUTES | _ROTATION,
    "journald": _ATTRIBUTES,
}
_UNKNOWN_OPTION = {
    "json-file": "unknown log opt '{}' for json-file log driver",
    "local": "unknown log opt '{}' for log driver local",
    "journald": "unknown log opt '{}' for journald log driver",
}
_SIZE = re.compile(r"(-?[0-9.]*) ?([a-zA-Z]*)")
_UNITS = ("b", "k", "m", "g", "t", "p")
_TRUE, _FALSE = ("1", "t", "T", "TRUE", "true", "True"), ("0", "f", "F", "FALSE", "false", "False")
_FIELD = re.compile(r"\{\{-?\s*(.*?)\s*-?\}\}")
_SHORT = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class LogDefaults:
    """The engine's driver, and its options for containers that name no driver or the same one."""

    driver: str = DEFAULT_DRIVER
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotation:
    """When a log begins a new file: ``max_size`` in bytes (None: never), ``max_files`` with the current one."""

    max_size: int | None = DEFAULT_MAX_SIZE
    max_files: int = DEFAULT_MAX_FILES
    compress: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalEntry:
    """What conmon writes beside each line in the journal: the container's ``name`` and ``tag``."""

    name: str
    tag: str


def writes_files(container: Container) -> bool:
    """Whether the log of ``container`` is kept in files of its own."""
    return container.host_config.log_config.type in FILE_DRIVERS


def journal_entry(container: Container) -> JournalEntry | None:
    """For a container whose log goes to the journal, else None. Raises Unavailable when the host has no journal."""
    if container.host_config.log_config.type != "journald":
        return None
    if not JOURNAL_SOCKET.exists():
        raise Unavailable(
            "failed to initialize logging driver: journald is not enabled on this host",
            hint="start systemd-journald or choose another log driver",
            code="no-journal",
        )
    return JournalEntry(name=container.name, tag=tag_of(container))


def complete_log_config(config: LogConfig, defaults: LogDefaults) -> None:
    """Fill the engine's defaults into ``config`` in place and check it. Raises InvalidArgument."""
    config.type = config.type or defaults.driver
    own = config.config or {}
    config.config = {**defaults.options, **own} if config.type == defaults.driver else dict(own)
    check(config.type, config.config)


def check(driver: str, options: Mapping[str, str]) -> None:
    """Whether ``driver`` exists and takes ``options``. Raises InvalidArgument in Docker's words."""
    if driver == "none":
        return
    mode = options.get("mode", "")
    if mode not in ("", "blocking", "non-blocking"):
        raise InvalidArgument(f"logger: logging mode not supported: {mode}", hint="use blocking or non-blocking")
    if "max-buffer-size" in options:
        if mode != "non-blocking":
            raise InvalidArgument("logger: max-buffer-size option is only supported with 'mode=non-blocking'")
        _checked("error parsing option max-buffer-size: ", options["max-buffer-size"])
    if driver not in DRIVERS:
        raise InvalidArgument(
            f'error looking up logging plugin {driver}: plugin "{driver}" not found',
            hint=f"use {', '.join(DRIVERS)}",
            code="log-driver",
        )
    for name in sorted(options.keys() - {"mode", "max-buffer-size"}):
        if name not in _KNOWN[driver]:
            known = ", ".join(sorted(_KNOWN[driver]))
            raise InvalidArgument(_UNKNOWN_OPTION[driver].format(name), hint=f"it takes {known}", code="log-option")
    try:
        if driver in FILE_DRIVERS:
            rotation_of(driver, options)
        _patterns(options)
        for name in _fields_of(options.get("tag", "")):
            if name not in _TAG_FIELDS:
                raise InvalidArgument(f"template: log-tag: can't evaluate field {name}", hint=_tag_hint())
    except InvalidArgument as error:
        # Docker says so when the container starts; here nothing has been made yet.
        message = f"failed to initialize logging driver: {error.message}"
        raise InvalidArgument(message, hint=error.hint, code="log-option") from error


def rotation_of(driver: str, options: Mapping[str, str]) -> Rotation:
    """The rotation that ``options`` of a file driver ask for. Raises InvalidArgument."""
    local = driver == "local"
    default = Rotation()
    size: int | None = default.max_size
    if "max-size" in options:
        size = _max_size(options["max-size"], local=local)
    files = default.max_files
    if "max-file" in options:
        files = _max_files(options["max-file"], local=local)
    compress = local and files > 1
    if "compress" in options:
        compress = _compress(options["compress"], local=local)
        if compress and local and files <= 1:
            raise InvalidArgument("compression cannot be enabled when max file count is 1")
        if compress and (files <= 1 or size is None):
            raise InvalidArgument("compress cannot be true when max-file is less than 2 or max-size is not set")
    return Rotation(max_size=size, max_files=files, compress=compress)


def _max_size(text: str, *, local: bool) -> int | None:
    if text.strip() == "-1":
        return None
    size = _checked(f"invalid value for max-size: {text}: " if local else "", text)
    if size <= 0 and not local:
        raise InvalidArgument("max-size must be a positive number")
    return size or None


def _max_files(text: str, *, local: bool) -> int:
    if not re.fullmatch(r"[+-]?[0-9]+", text):
        prefix = f"invalid value for max-file: {text}: " if local else ""
        raise InvalidArgument(f'{prefix}strconv.Atoi: parsing "{text}": invalid syntax', hint="a number such as 5")
    files = int(text)
    if local and files < 0:
        raise InvalidArgument("max-file must not be negative")
    if not local and files < 1:
        raise InvalidArgument("max-file cannot be less than 1")
    return max(files, 1)


def _compress(text: str, *, local: bool) -> bool:
    if text not in _TRUE + _FALSE:
        prefix = "invalid boolean value for compress: " if local else ""
        message = f'{prefix}strconv.ParseBool: parsing "{text}": invalid syntax'
        raise InvalidArgument(message, hint="true or false")
    return text in _TRUE


def _checked(prefix: str, text: str) -> int:
    """Bytes of a human size in decimal units, as Docker's go-units reads it (``FromHumanSize``)."""
    match = _SIZE.fullmatch(text)
    try:
        number = float(match[1]) if match else -1.0
    except ValueError:
        number = -1.0
    if match is None or number < 0:
        raise InvalidArgument(f"{prefix}invalid size: '{text}'", hint="such as 20m")
    suffix = match[2].lower()
    if suffix and not (suffix[0] in _UNITS and suffix[1:] in ("", "b", "ib") and suffix not in ("bb", "bib")):
        raise InvalidArgument(f"{prefix}invalid suffix: '{match[2]}'", hint="such as 20m")
    return int(number * 1000 ** (_UNITS.index(suffix[0]) if suffix else 0))


def _patterns(options: Mapping[str, str]) -> tuple[re.Pattern[str] | None, re.Pattern[str] | None]:
    found = []
    for name in ("labels-regex", "env-regex"):
        try:
            found.append(re.compile(options[name]) if options.get(name) else None)
        except re.error as error:
            raise InvalidArgument(f"error parsing regexp: {error}: `{options[name]}`", hint=f"see {name}") from error
    return found[0], found[1]


def attributes(container: Container) -> dict[str, str]:
    """What ``labels``, ``env`` and ``tag`` choose to go with every line of the log (``logs --details``)."""
    options = container.host_config.log_config.config or {}
    label_pattern, env_pattern = _patterns(options)
    chosen: dict[str, str] = {}
    labels = container.config.labels or {}
    variables = dict(entry.partition("=")[::2] for entry in container.config.env or [] if "=" in entry)
    for option, values, pattern in (("labels", labels, label_pattern), ("env", variables, env_pattern)):
        wanted = options.get(option, "").split(",")
        chosen |= {name: value for name, value in values.items() if name in wanted}
        chosen |= {name: value for name, value in values.items() if pattern is not None and pattern.search(name)}
    if options.get("tag"):
        chosen["tag"] = tag_of(container)
    return chosen


def details_prefix(container: Container) -> bytes:
    """The words that ``logs --details`` puts before each line: sorted, escaped as in a query, and a space."""
    chosen = sorted(attributes(container).items())
    return (",".join(f"{quote_plus(name)}={quote_plus(value)}" for name, value in chosen) + " ").encode()


_TAG_FIELDS: dict[str, Callable[[Container], str]] = {
    ".ID": lambda c: c.id[:_SHORT],
    ".FullID": lambda c: c.id,
    ".Name": lambda c: c.name,
    ".ImageID": lambda c: c.image_id.removeprefix("sha256:")[:_SHORT],
    ".ImageFullID": lambda c: c.image_id,
    ".ImageName": lambda c: c.image_name,
    ".DaemonName": lambda _: "docker",
    ".Command": lambda c: " ".join([c.path, *c.args]),
}


def tag_of(container: Container, default: str = "{{.ID}}") -> str:
    """The container's tag: option ``tag`` with its fields filled in."""
    template = (container.host_config.log_config.config or {}).get("tag") or default
    return _FIELD.sub(lambda match: _TAG_FIELDS[match[1]](container), template)


def _fields_of(template: str) -> list[str]:
    return [match[1] for match in _FIELD.finditer(template)]


def _tag_hint() -> str:
    return f"fields are {', '.join(_TAG_FIELDS)}"
