"""The end of a container is stored as soon as it can be: a full disk delays it and loses nothing."""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Awaitable, Callable

from tare.engine.live import Live
from tare.errors import Exhausted
from tare.model.container import Container

logger = logging.getLogger(__name__)

FIRST_PAUSE = 0.25
LONGEST_PAUSE = 15.0
"""Seconds between two attempts; each pause is twice the one before."""
_FULL = (errno.ENOSPC, errno.EDQUOT)


def check_end_is_stored(live: Live, container: Container) -> None:
    """Raises Exhausted for a container that has ended on a full disk: it can be neither removed nor started yet."""
    if live.unstored_end is not None:
        raise Exhausted(
            f"container {container.name} has ended, which cannot be stored: no space left on device",
            hint="free space below the data root",
            code="no-space",
        )


async def store_when_there_is_space(container_id: str, settle: Callable[[], Awaitable[None]]) -> None:
    """Call ``settle``, and again after a pause while it fails for want of space; other errors are the caller's.

    Nothing tells when a disk has space again, so this asks. An engine that ends meanwhile leaves the exit code in the
    supervisor's exit file, where the next one finds it.
    """
    pause, waited = FIRST_PAUSE, False
    while True:
        try:
            await settle()
        except (Exhausted, OSError) as error:
            if isinstance(error, OSError) and error.errno not in _FULL:
                raise
            if not waited:
                logger.warning("container %s has ended, which cannot be stored: %s", container_id[:12], error)
            waited = True
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)
        else:
            if waited:
                logger.info("container %s: its end is stored now", container_id[:12])
            return
