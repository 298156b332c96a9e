"""What options of the command line hold, read as Docker's command line reads it and refused in its words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from tare.base.durations import parse_duration
from tare.cli.units import parse_size
from tare.errors import InvalidArgument

FLAG_CODE = "invalid-flag"
"""The code of errors that Docker tells together with the command's usage."""
_STREAMS = ("stdin", "stdout", "stderr")
_LONGEST_NUMBER = 64
_HUGE_EXPONENT = re.compile(r"[eE][+-]?\d{3}")
_NAMESPACED = frozenset(
    {"kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall", "kernel.shmmax",
     "kernel.shmmni", "kernel.shm_rmid_forced"}
)  # fmt: skip
_MAC = re.compile(
    r"(?:[0-9a-fA-F]{2}([:-]))(?:[0-9a-fA-F]{2}\1){4}[0-9a-fA-F]{2}|(?:[0-9a-fA-F]{4}\.){2}[0-9a-fA-F]{4}"
)


def flag_error(value: str, flag: str, why: str) -> InvalidArgument:
    """The error for a value that cannot be read; ``flag`` as it stands in the usage: ``-m, --memory``."""
    return InvalidArgument(f'invalid argument "{value}" for "{flag}" flag: {why}', code=FLAG_CODE)


def read_bytes(text: str, flag: str) -> int:
    """A size in bytes, 0 for none. Raises InvalidArgument."""
    if not text:
        return 0
    try:
        return parse_size(text, flag)
    except InvalidArgument as error:
        raise flag_error(text, flag, f"invalid size: '{text}'") from error


def read_integer(text: str, flag: str, *, kind: str = "ParseInt") -> int:
    """A whole number; ``kind`` ParseUint takes no sign and at most 65535. Raises InvalidArgument."""
    if not text:
        return 0
    try:
        number = int(text, 0) if re.fullmatch(r"[+-]?(0[xX][0-9a-fA-F]+|[0-9]+)", text, re.ASCII) else int("?")
    except ValueError as error:
        raise flag_error(text, flag, f'strconv.{kind}: parsing "{text}": invalid syntax') from error
    if kind == "ParseUint" and not 0 <= number < 1 << 16:
        why = "invalid syntax" if text.startswith("-") else "value out of range"
        raise flag_error(text, flag, f'strconv.ParseUint: parsing "{text}": {why}')
    return number


def read_duration(text: str, flag: str) -> int:
    """A duration such as ``1m30s`` in nanoseconds. Raises InvalidArgument, also for a negative one."""
    if not text:
        return 0
    negative, digits = text.startswith("-"), text.lstrip("+-")
    seconds = 0.0 if digits == "0" else parse_duration(digits)
    if seconds is None:
        raise flag_error(text, flag, f'time: invalid duration "{text}"')
    if negative and seconds:
        raise InvalidArgument(f"{flag} cannot be negative")
    return round(seconds * 1_000_000_000)


def read_cpus(text: str) -> int:
    """``--cpus`` in 10⁻⁹ CPUs. Raises InvalidArgument."""
    if not text:
        return 0
    from fractions import Fraction

    try:
        if len(text) > _LONGEST_NUMBER or _HUGE_EXPONENT.search(text):  # which take long to compute with
            raise ValueError(text)
        value = Fraction(text) * 1_000_000_000
    except (ValueError, ZeroDivisionError) as error:
        raise flag_error(text, "--cpus", f"failed to parse {text} as a rational number") from error
    if value.denominator != 1:
        raise flag_error(text, "--cpus", "value is too precise")
    return int(value)


def read_swap(text: str) -> int:
    """``--memory-swap`` in bytes, -1 for unlimited."""
    return -1 if text == "-1" else read_bytes(text, "--memory-swap")


def read_swappiness(text: str) -> int | None:
    """``--memory-swappiness``, None for the kernel's own."""
    value = read_integer(text or "-1", "--memory-swappiness")
    if not -1 <= value <= 100:
        raise InvalidArgument(f"invalid value: {value}. Valid memory swappiness range is 0-100")
    return None if value < 0 else value


def read_weight_device(text: str) -> dict[str, Any]:
    """``--blkio-weight-device PATH:WEIGHT``. Raises InvalidArgument."""
    flag = "--blkio-weight-device"
    path, weight = _device_and_number(text, flag)
    if not weight.isdecimal() or not (int(weight) == 0 or 10 <= int(weight) <= 1000):
        raise flag_error(text, flag, f"invalid weight for device: {text}")
    return {"Path": path, "Weight": int(weight)}


def read_rate_device(text: str, flag: str) -> dict[str, Any]:
    """``PATH:RATE`` of the options for bytes or operations per second. Raises InvalidArgument."""
    path, rate = _device_and_number(text, flag)
    in_bytes = flag.endswith("bps")
    try:
        value = parse_size(rate, flag) if in_bytes else int(rate)
    except (InvalidArgument, ValueError):
        value = -1
    if value < 0:
        unit, more = ("[<unit>]", ". Unit is optional and can be kb, mb, or gb") if in_bytes else ("", "")
        raise flag_error(
            text,
            flag,
            f"invalid rate for device: {text}. The correct format is <device-path>:<number>{unit}. "
            f"Number must be a positive integer{more}",
        )
    return {"Path": path, "Rate": value}


def _device_and_number(text: str, flag: str) -> tuple[str, str]:
    path, colon, number = text.partition(":")
    if not colon or ":" in number:
        raise flag_error(text, flag, f"bad format: {text}")
    if not path.startswith("/dev/"):
        raise flag_error(text, flag, f"bad format for device path: {text}")
    return path, number


def read_device(text: str) -> dict[str, str]:
    """``--device /dev/x[:/dev/y][:rwm]`` as the API's DeviceMapping. Raises InvalidArgument."""
    parts = text.split(":")
    if len(parts) > 3 or not parts[0]:
        raise InvalidArgument(f"bad format for path: {text}")
    source, target, rights = parts[0], parts[0], "rwm"
    if len(parts) == 3:
        target, rights = parts[1], parts[2]
        if not _is_rights(rights):
            raise InvalidArgument(f"bad mode specified: {rights}")
    elif len(parts) == 2:
        target, rights = (source, parts[1]) if _is_rights(parts[1]) else (parts[1], rights)
    if not target.startswith("/"):
        raise InvalidArgument(f"{target} is not an absolute path")
    return {"PathOnHost": source, "PathInContainer": target, "CgroupPermissions": rights}


def _is_rights(text: str) -> bool:
    return bool(text) and len(set(text)) == len(text) and not set(text) - set("rwm")


def read_device_rule(text: str) -> str:
    """``--device-cgroup-rule``. Raises InvalidArgument."""
    if re.fullmatch(r"[acb] ([0-9]+|\*):([0-9]+|\*) [rwm]{1,3}", text, re.ASCII) is None:
        raise flag_error(text, "--device-cgroup-rule", f"invalid device cgroup format '{text}'")
    return text


def read_sysctls(texts: Iterable[str]) -> dict[str, str]:
    """``--sysctl NAME=VALUE``; only settings of namespaces. Raises InvalidArgument."""
    values = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not (name in _NAMESPACED or name.startswith(("net.", "fs.mqueue."))):
            raise flag_error(text, "--sysctl", f"sysctl '{text}' is not allowed")
        values[name] = value
    return values


def read_restart(text: str) -> dict[str, Any]:
    """``--restart`` as the API's RestartPolicy; the engine knows which names there are. Raises InvalidArgument."""
    name, colon, count = text.partition(":")
    if colon and not name:
        raise InvalidArgument("invalid restart policy format: no policy provided before colon")
    if count and not re.fullmatch(r"[+-]?\d+", count, re.ASCII):
        raise InvalidArgument("invalid restart policy format: maximum retry count must be an integer")
    return {"Name": name or "no", "MaximumRetryCount": int(count or 0)}


def read_mode(text: str, option: str, kind: str, words: Sequence[str], *, container: bool = False) -> str:
    """A namespace option: empty, one of ``words``, or with ``container`` also ``container:NAME``."""
    named = container and text.startswith("container:") and len(text) > len("container:")
    if text and text not in words and not named:
        raise InvalidArgument(f"{option}: invalid {kind} mode")
    return text


def read_streams(texts: Iterable[str]) -> set[str]:
    """``--attach`` streams by their names in lower case. Raises InvalidArgument."""
    for text in texts:
        if text.lower() not in _STREAMS:
            raise flag_error(text, "-a, --attach", "valid streams are STDIN, STDOUT and STDERR")
    return {text.lower() for text in texts}


def read_mac(text: str) -> str:
    """``--mac-address``. Raises InvalidArgument."""
    if text and _MAC.fullmatch(text) is None:
        raise InvalidArgument(f"{text} is not a valid mac address")
    return text


def read_pairs(texts: Iterable[str], flag: str) -> dict[str, str]:
    """``KEY=VALUE`` options, the last of each key. Raises InvalidArgument for an empty key."""
    pairs = {}
    for text in texts:
        key, _, value = text.partition("=")
        if not key:
            raise flag_error(text, flag, f"invalid label '{text}': empty name")
        pairs[key] = value
    return pairs
