"""Pull images and show how it goes."""

from __future__ import annotations

import sys

from tare.client.client import Client
from tare.errors import InternalError


def split_name(name: str) -> tuple[str, str]:
    """Repository and tag or digest of what a user typed (tag ``latest`` when there is none)."""
    from tare.model import Reference

    reference = Reference.parse(name)
    return reference.familiar_name, str(reference.digest) if reference.digest else reference.tag


async def pull_image(
    client: Client, name: str, *, platform: str = "", quiet: bool = False, to_stderr: bool = False
) -> None:
    """Pull ``name``. Raises what the engine says when it cannot."""
    repository, tag = split_name(name)
    progress = _Progress(quiet=quiet, to_stderr=to_stderr)
    async for message in client.images.pull(repository, tag, platform=platform):
        if "error" in message:
            progress.end()
            raise InternalError(str(message["error"]), code="engine")
        if progress.live or not message.get("progressDetail"):
            progress.show(str(message.get("id", "")), str(message.get("status", "")))
    progress.end()


class _Progress:
    """Lines that are rewritten on a terminal; elsewhere a line for each that is no mere step of a transfer."""

    def __init__(self, *, quiet: bool, to_stderr: bool) -> None:
        self._stream = sys.stderr if to_stderr else sys.stdout
        self._quiet = quiet
        self.live = self._stream.isatty()
        self._lines: dict[str, str] = {}

    def show(self, identifier: str, text: str) -> None:
        if self._quiet:
            return
        if not identifier or not self.live:
            if not identifier or self._lines.get(identifier) != text:
                self._stream.write(f"{identifier}: {text}\n" if identifier else f"{text}\n")
            self._lines[identifier] = text
            if not identifier:
                self._lines.clear()
        else:
            self._rewrite(identifier, f"{identifier}: {text}")
        self._stream.flush()

    def _rewrite(self, identifier: str, text: str) -> None:
        if identifier not in self._lines:
            self._lines[identifier] = text
            self._stream.write(f"{text}\n")
            return
        self._lines[identifier] = text
        up = len(self._lines) - list(self._lines).index(identifier)
        self._stream.write(f"\x1b[{up}A\x1b[2K\r{text}\x1b[{up}B\r")

    def end(self) -> None:
        self._stream.flush()
