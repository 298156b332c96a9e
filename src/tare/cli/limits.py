"""``--ulimit`` of ``run`` and ``build``."""

from __future__ import annotations

import re
from typing import Any

from tare.cli.flags import flag_error

_NAMES = frozenset(
    {"core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss", "rtprio",
     "rttime", "sigpending", "stack"}
)  # fmt: skip
"""Docker's; ``as`` is not among them."""


def read_ulimit(text: str) -> dict[str, Any]:
    """``name=soft[:hard]`` in the Engine API's form. Raises InvalidArgument in Docker's words."""
    name, equals, values = text.partition("=")
    if not equals:
        raise flag_error(text, "--ulimit", f"invalid ulimit argument: {text}")
    if name not in _NAMES:
        raise flag_error(text, "--ulimit", f"invalid ulimit type: {name}")
    parts = values.split(":")
    if len(parts) > 2:
        why = f"too many limit value arguments - {values}, can only have up to two, `soft[:hard]`"
        raise flag_error(text, "--ulimit", why)
    for part in parts:
        if not re.fullmatch(r"[+-]?\d+", part, re.ASCII):
            raise flag_error(text, "--ulimit", f'strconv.ParseInt: parsing "{part}": invalid syntax')
    soft, hard = int(parts[0]), int(parts[-1])
    if hard != -1 and (soft == -1 or soft > hard):
        less = "ulimit soft limit must be less than or equal to hard limit"
        raise flag_error(text, "--ulimit", f"{less}: {soft if soft >= 0 else 'soft: -1 (unlimited), hard'} > {hard}")
    return {"Name": name, "Soft": soft, "Hard": hard}
