"""``--ulimit`` of ``run`` and ``build``."""

from __future__ import annotations

import re
from typing import Any

from tare.errors import InvalidArgument

_ULIMIT = re.compile(r"(?P<name>[a-z]+)=(?P<soft>-1|\d+)(?::(?P<hard>-1|\d+))?")


def read_ulimit(text: str) -> dict[str, Any]:
    """``name=soft[:hard]`` in the Engine API's form. Raises InvalidArgument."""
    match = _ULIMIT.fullmatch(text)
    if match is None:
        raise InvalidArgument(f'invalid argument "{text}" for "--ulimit"', hint="use name=soft[:hard]")
    return {"Name": match["name"], "Soft": int(match["soft"]), "Hard": int(match["hard"] or match["soft"])}
