"""The engine's nftables table, through libnftables; the only place that loads that library."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import threading
from collections.abc import Iterable

from tare.base.shielding import to_end
from tare.errors import InternalError, Unavailable
from tare.network.ruleset import Detour, FirewallState, render, render_change, render_removal, shape

logger = logging.getLogger(__name__)

_TERSE = 1 << 11  # nftables/libnftables.h, NFT_CTX_OUTPUT_TERSE


class NftError(InternalError):
    """nftables refused a transaction; nothing of it was applied."""


class Nftables:
    """A libnftables context (libnftables(3)); calls block for some milliseconds and are serialised."""

    def __init__(self) -> None:
        try:
            library = ctypes.CDLL("libnftables.so.1")
        except OSError as error:
            raise Unavailable(
                "libnftables.so.1 not found", hint="install the package libnftables1", code="program-missing"
            ) from error
        library.nft_ctx_new.restype = ctypes.c_void_p
        library.nft_ctx_new.argtypes = [ctypes.c_uint32]
        library.nft_ctx_free.argtypes = [ctypes.c_void_p]
        library.nft_ctx_output_set_flags.argtypes = [ctypes.c_void_p, ctypes.c_uint]
        library.nft_ctx_buffer_output.argtypes = [ctypes.c_void_p]
        library.nft_ctx_buffer_error.argtypes = [ctypes.c_void_p]
        library.nft_run_cmd_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
        for getter in (library.nft_ctx_get_output_buffer, library.nft_ctx_get_error_buffer):
            getter.argtypes = [ctypes.c_void_p]
            getter.restype = ctypes.c_char_p
        self._library = library
        self._lock = threading.Lock()

    def run(self, commands: str, *, terse: bool = False) -> str:
        """Apply ``commands`` as one transaction and return what they print, ``terse`` without elements.

        Raises NftError.
        """
        library = self._library
        with self._lock:
            # a fresh context each time: a kept one holds a cache that others' changes make stale
            context = library.nft_ctx_new(0)
            try:
                if terse:
                    library.nft_ctx_output_set_flags(context, _TERSE)
                library.nft_ctx_buffer_output(context)
                library.nft_ctx_buffer_error(context)
                status = library.nft_run_cmd_from_buffer(context, commands.encode())
                output = (library.nft_ctx_get_output_buffer(context) or b"").decode(errors="replace")
                errors = (library.nft_ctx_get_error_buffer(context) or b"").decode(errors="replace")
            finally:
                library.nft_ctx_free(context)
        if status != 0:
            raise NftError(f"nftables: {errors.strip() or 'unknown error'}", code="nftables")
        return output


class Firewall:
    """One table ``inet <name>``; every change is one atomic transaction."""

    def __init__(self, table: str) -> None:
        self.table = table
        self._nft: Nftables | None = None
        self._detour: Detour | None = None

    async def replace(self, state: FirewallState) -> None:
        """Make the table say exactly ``state``. Raises NftError."""
        self._detour = state.detour
        await to_end(asyncio.to_thread(self._replace_blocking, state))

    async def add(self, elements: Iterable[tuple[str, str]]) -> None:
        """Add elements. Raises NftError, for instance when the table was flushed: call :meth:`replace` then."""
        await self._change("add", elements)

    async def delete(self, elements: Iterable[tuple[str, str]]) -> None:
        """Delete elements. Raises NftError when one is not there."""
        await self._change("delete", elements)

    async def remove(self) -> None:
        """Delete the table; absence is no error."""
        await self._run(render_removal(self.table))

    async def _change(self, verb: str, elements: Iterable[tuple[str, str]]) -> None:
        if chosen := list(elements):
            await self._run(render_change(verb, self.table, chosen, self._detour))

    def _replace_blocking(self, state: FirewallState) -> None:
        text = render(self.table, state, kept=True)
        wanted = shape(text)
        try:
            listing = "".join(self._run_blocking(f"list {name}", terse=True) for name in wanted)
            if shape(listing) == wanted:
                self._run_blocking(text)
                return
        except NftError as error:
            logger.debug("table %s is made anew: %s", self.table, error.message)
        self._run_blocking(render(self.table, state))

    async def _run(self, commands: str) -> str:
        return await to_end(asyncio.to_thread(self._run_blocking, commands))

    def _run_blocking(self, commands: str, *, terse: bool = False) -> str:
        if self._nft is None:
            self._nft = Nftables()
        return self._nft.run(commands, terse=terse)
