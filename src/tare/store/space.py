"""The disk's errors in the engine's terms."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tare.errors import Exhausted

_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn "no space left" into Exhausted naming ``path``; other errors pass."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise Exhausted(
            f"{path}: {error.strerror}",
            hint="free space there, for example with `tare system prune`",
            code="no-space",
        ) from error
