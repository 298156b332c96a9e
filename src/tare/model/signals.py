"""Signal names and numbers as Docker accepts them."""

from __future__ import annotations

import signal

from tare.errors import InvalidArgument

HIGHEST = 64  # SIGRTMAX on Linux


def parse_signal(text: str) -> int:
    """Read ``KILL``, ``SIGKILL``, ``9`` or ``RTMIN+3``. Raises InvalidArgument (``invalid signal: x``)."""
    if text.isascii() and text.isdecimal():
        number = int(text)
        if 0 < number <= HIGHEST:
            return number
        raise InvalidArgument(f"invalid signal: {text}")
    name = text.upper().removeprefix("SIG")
    base, sign, offset = name.replace("-", "+-").partition("+")
    if base in ("RTMIN", "RTMAX") and (not sign or offset.lstrip("-").isdecimal()):
        start = signal.SIGRTMIN if base == "RTMIN" else signal.SIGRTMAX
        number = int(start) + int(offset or 0)
        if signal.SIGRTMIN <= number <= signal.SIGRTMAX:
            return number
    elif hasattr(signal, f"SIG{name}") and name and not name.startswith("_"):
        return int(getattr(signal, f"SIG{name}"))
    raise InvalidArgument(f"invalid signal: {text}", hint="use a name such as SIGTERM or a number from 1 to 64")
