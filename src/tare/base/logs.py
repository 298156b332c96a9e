"""Logging: the standard library's, with the request or container at hand in every line."""

from __future__ import annotations

import logging
import sys
from contextvars import ContextVar

subject: ContextVar[str] = ContextVar("subject", default="-")
"""What the running task works for: a request number, a container's short id."""


class _SubjectFilter(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        record.subject = subject.get()
        return True


def configure(*, debug: bool = False) -> None:
    """Send log lines to standard error; called by ``main`` functions only."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_SubjectFilter())
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(subject)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    if debug:
        logging.getLogger(__name__.partition(".")[0]).setLevel(logging.DEBUG)  # ours, not every library's
