"""What a health check does and when: read from a container's configuration, its labels and its image. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from tare.base.durations import parse_duration
from tare.errors import InvalidArgument
from tare.model.container import ContainerConfig, HealthConfig
from tare.oci.image import ExecutionConfig

LABEL_PREFIX = "tare.health."
DEFAULT_SHELL = ("/bin/sh", "-c")
DEFAULT_INTERVAL = 30.0  # seconds, as all of these; Docker's
DEFAULT_TIMEOUT = 30.0
DEFAULT_START_INTERVAL = 5.0
DEFAULT_RETRIES = 3
_NS = 1_000_000_000
_MINIMUM_NS = 1_000_000
_DURATIONS = {
    "interval": "interval",
    "timeout": "timeout",
    "start-period": "start_period",
    "start-interval": "start_interval",
}
_NETWORK_LABELS = ("http", "tcp")
_TARGET = re.compile(r"(?:(?P<address>\[[^\]/]*\]|[^:/\[\]]*):)?(?P<port>\d+)(?P<path>/.*)?", re.ASCII | re.DOTALL)
_PATH = re.compile(r"/[!-~]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class NetworkTarget:
    """Where a check connects to, seen from inside the container: ``addresses`` are tried in order."""

    kind: Literal["http", "tcp"]
    addresses: tuple[str, ...]
    port: int
    path: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthCheck:
    """A check and its timing in seconds; either a ``command`` or a ``target``."""

    command: tuple[str, ...] = ()
    target: NetworkTarget | None = None
    interval: float = DEFAULT_INTERVAL
    timeout: float = DEFAULT_TIMEOUT
    start_period: float = 0.0
    start_interval: float = DEFAULT_START_INTERVAL
    retries: int = DEFAULT_RETRIES

    def pause(self, *, running_for: float, status: str) -> float:
        """Seconds until the next check of a container that has run for ``running_for`` seconds."""
        in_start_period = running_for < self.start_period and status == "starting"
        return self.start_interval if in_start_period else self.interval


def health_check(config: ContainerConfig) -> HealthCheck | None:
    """The container's check; None when it has none, and for a kind that nobody knows (as in Docker)."""
    asked = config.healthcheck
    if asked is None or not asked.test:
        return None
    kind, words = asked.test[0], tuple(asked.test[1:])
    command: tuple[str, ...] = ()
    target = None
    if kind == "CMD":
        command = words
    elif kind == "CMD-SHELL":
        command = (*(config.shell or DEFAULT_SHELL), *words)
    elif kind in ("HTTP", "TCP") and len(words) == 1:
        target = read_target(kind, words[0])
    else:
        return None
    return HealthCheck(
        command=command,
        target=target,
        interval=asked.interval / _NS or DEFAULT_INTERVAL,
        timeout=asked.timeout / _NS or DEFAULT_TIMEOUT,
        start_period=asked.start_period / _NS,
        start_interval=asked.start_interval / _NS or DEFAULT_START_INTERVAL,
        retries=asked.retries if asked.retries > 0 else DEFAULT_RETRIES,
    )


def settle_health(config: ContainerConfig, image: ExecutionConfig) -> list[str]:
    """Complete ``config.healthcheck`` in place from labels and image, and check it; returns warnings.

    The request's own check comes first, then labels of the request, labels of the image, the image's HEALTHCHECK.
    Raises InvalidArgument.
    """
    own = config.healthcheck or HealthConfig()
    layers = [own, read_labels(config.labels or {}), read_labels(image.labels or {})]
    if image.healthcheck is not None:
        base = image.healthcheck
        layers.append(
            HealthConfig(
                test=base.test,
                interval=base.interval,
                timeout=base.timeout,
                start_period=base.start_period,
                start_interval=base.start_interval,
                retries=base.retries,
            )
        )
    merged = HealthConfig(
        test=next((layer.test for layer in layers if layer.test), own.test),
        retries=next((layer.retries for layer in layers if layer.retries), 0),
    )
    for field in _DURATIONS.values():
        setattr(merged, field, next((getattr(layer, field) for layer in layers if getattr(layer, field)), 0))
    if config.healthcheck is None and merged == HealthConfig():
        return []
    config.healthcheck = merged
    return _check(merged)


def _check(check: HealthConfig) -> list[str]:
    names = {"Interval": check.interval, "Timeout": check.timeout, "StartPeriod": check.start_period}
    for name, value in {**names, "StartInterval": check.start_interval}.items():
        if value != 0 and value < _MINIMUM_NS:
            raise InvalidArgument(f"{name} in Healthcheck cannot be less than 1ms")
    if check.retries < 0:
        raise InvalidArgument("Retries in Healthcheck cannot be negative")
    if not check.test:
        return []
    kind, words = check.test[0], check.test[1:]
    if kind in ("HTTP", "TCP"):
        if len(words) != 1:
            raise InvalidArgument(
                f"health check {kind} takes one target, not {len(words)}", hint=_TARGET_HINT[kind], code="health-target"
            )
        read_target(kind, words[0])
    elif kind in ("CMD", "CMD-SHELL"):
        if not words:
            raise InvalidArgument(f"health check {kind} has no command", hint="name one, or use NONE", code="health")
    elif kind != "NONE":
        return [f"Unknown healthcheck type '{kind}' (expected 'CMD', 'CMD-SHELL', 'HTTP', 'TCP' or 'NONE'): not run"]
    return []


_TARGET_HINT = {"HTTP": "such as :8080/path", "TCP": "such as :5432"}


def read_target(kind: str, text: str) -> NetworkTarget:
    """``[ADDRESS]:PORT[/PATH]`` of a check of kind HTTP or TCP; without address the container's loopback.

    Raises InvalidArgument.
    """
    hint = _TARGET_HINT[kind]

    def refused(why: str) -> InvalidArgument:
        return InvalidArgument(f'health check {kind}: "{text}": {why}', hint=hint, code="health-target")

    match = _TARGET.fullmatch(text)
    if match is None:
        raise refused("not [ADDRESS]:PORT" + ("[/PATH]" if kind == "HTTP" else ""))
    port, path = int(match["port"]), match["path"] or ""
    if not 0 < port < 65536:
        raise refused(f"{port} is not a port")
    if kind == "TCP" and path:
        raise refused("a TCP check has no path")
    if kind == "HTTP":
        path = path or "/"
        if not _PATH.fullmatch(path):
            raise refused("the path has characters that must be percent-encoded")
    addresses = _addresses(match["address"] or "")
    if not addresses:
        raise refused(f"{match['address']} is not an IP address")
    return NetworkTarget("http" if kind == "HTTP" else "tcp", addresses, port, path)


def _addresses(text: str) -> tuple[str, ...]:
    if text in ("", "localhost"):
        return ("127.0.0.1", "::1")
    try:
        return (str(ipaddress.ip_address(text.strip("[]"))),)
    except ValueError:
        return ()


def read_labels(labels: Mapping[str, str]) -> HealthConfig:
    """What the labels ``tare.health.*`` say. Raises InvalidArgument for a value that cannot be read."""
    found = {name.removeprefix(LABEL_PREFIX): value for name, value in labels.items() if name.startswith(LABEL_PREFIX)}
    config = HealthConfig()
    kinds = [name for name in _NETWORK_LABELS if found.get(name)]
    if len(kinds) > 1:
        raise InvalidArgument(
            f"labels {LABEL_PREFIX}http and {LABEL_PREFIX}tcp exclude each other", hint="give one", code="health-label"
        )
    if kinds:
        config.test = [kinds[0].upper(), found[kinds[0]]]
        read_target(*config.test)
    for name, field in _DURATIONS.items():
        if name in found:
            setattr(config, field, _duration(name, found[name]))
    if "retries" in found:
        if not (found["retries"].isascii() and found["retries"].isdecimal()):
            raise _label_error("retries", found["retries"], "3")
        config.retries = int(found["retries"])
    unknown = sorted(set(found) - {*_NETWORK_LABELS, *_DURATIONS, "retries"})
    if unknown:
        raise InvalidArgument(
            f"unknown label {LABEL_PREFIX}{unknown[0]}",
            hint=f"known are {', '.join([*_NETWORK_LABELS, *_DURATIONS, 'retries'])}",
            code="health-label",
        )
    return config


def _duration(name: str, text: str) -> int:
    seconds = parse_duration(text)
    if seconds is None:
        raise _label_error(name, text, "30s")
    return round(seconds * _NS)


def _label_error(name: str, text: str, example: str) -> InvalidArgument:
    return InvalidArgument(
        f'label {LABEL_PREFIX}{name}: invalid value "{text}"', hint=f"such as {example}", code="health-label"
    )
