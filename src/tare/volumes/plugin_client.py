"""One volume plugin: Docker's plugin protocol, JSON over HTTP on a unix or TCP socket.

Source: Docker's pages "Docker Plugin API" and "Docker volume plugins" (protocol 1.2).
"""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from tare.errors import InvalidArgument, TareError, Unavailable

logger = logging.getLogger(__name__)

_ACCEPT = "application/vnd.docker.plugins.v1.2+json"
_MAX_ANSWER = 16 << 20
FIRST_DELAY = 0.5  # seconds between the first two attempts to connect; doubled each time, as Docker does


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginTimes:
    """How long a plugin may take, in seconds.

    ``connect``: until it accepts a connection, with retries. ``work``: Create, Remove, Mount, Unmount. ``ask``: the
    others.
    """

    connect: float = 30.0
    work: float = 120.0
    ask: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginAddress:
    """Where a plugin listens: ``unix:///path`` or ``tcp://host:port``, and what TLS is to be checked with."""

    name: str
    address: str
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    insecure: bool = False


class PluginClient:
    """Calls a plugin. A connection is made for each call: a plugin may have been restarted since the last."""

    def __init__(self, place: PluginAddress, times: PluginTimes) -> None:
        self.name = place.name
        self._place = place
        self._times = times

    async def activate(self) -> list[str]:
        """``/Plugin.Activate``: what the plugin implements. Raises Unavailable."""
        answer = await self.call("Plugin.Activate", None, seconds=self._times.ask, connect=min(self._times.connect, 10))
        implements = answer.get("Implements")
        return [str(kind) for kind in implements] if isinstance(implements, list) else []

    async def work(self, method: str, document: Mapping[str, Any]) -> dict[str, Any]:
        """A call that changes something. Raises Unavailable, and what the plugin says as InvalidArgument."""
        return await self.call(method, document, seconds=self._times.work, connect=self._times.connect)

    async def ask(self, method: str, document: Mapping[str, Any]) -> dict[str, Any]:
        """A call that asks. Raises as :meth:`work`."""
        return await self.call(method, document, seconds=self._times.ask, connect=self._times.connect)

    async def call(
        self, method: str, document: Mapping[str, Any] | None, *, seconds: float, connect: float
    ) -> dict[str, Any]:
        """POST ``document`` to ``/<method>``; an answer with ``Err`` is an error ``<method>: <Err>``.

        While nobody accepts connections it tries again, for ``connect`` seconds. What was sent is never sent again.
        """
        loop = asyncio.get_running_loop()
        deadline, delay = loop.time() + connect, FIRST_DELAY
        while True:
            try:
                async with asyncio.timeout(seconds):
                    return await self._send(method, document)
            except TimeoutError as error:
                raise Unavailable(
                    f"{method}: plugin {self.name!r} does not answer: no result within {seconds:g} seconds",
                    hint=f"look at the program behind {self._place.address}",
                    code="plugin-timeout",
                ) from error
            except (aiohttp.ClientConnectorError, FileNotFoundError, ConnectionRefusedError) as error:
                if loop.time() + delay > deadline:
                    raise Unavailable(
                        f"{method}: cannot connect to plugin {self.name!r} at {self._place.address}: {_cause(error)}",
                        hint="start the plugin",
                        code="plugin-unreachable",
                    ) from error
                logger.warning("cannot connect to plugin %s: %s, retrying in %gs", self.name, _cause(error), delay)
                await asyncio.sleep(delay)
                delay *= 2
            except aiohttp.ClientError as error:
                raise Unavailable(
                    f"{method}: plugin {self.name!r} went away: {_cause(error)}",
                    hint="look at its log, and start it again",
                    code="plugin-died",
                ) from error

    async def _send(self, method: str, document: Mapping[str, Any] | None) -> dict[str, Any]:
        connector, base = self._connector()
        async with (
            aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None)) as session,
            session.post(
                f"{base}/{method}",
                data=json.dumps(document).encode() if document is not None else b"",
                headers={"Accept": _ACCEPT, "Content-Type": _ACCEPT},
                allow_redirects=False,
            ) as answer,
        ):
            body = bytearray()
            async for chunk in answer.content.iter_any():
                body += chunk
                if len(body) > _MAX_ANSWER:
                    raise Unavailable(f"{method}: plugin {self.name!r} sends too much", code="plugin-broken")
            return self._read(method, answer.status, bytes(body))

    def _connector(self) -> tuple[aiohttp.BaseConnector, str]:
        address = self._place.address
        if address.startswith("unix://"):
            return aiohttp.UnixConnector(address.removeprefix("unix://")), "http://plugin"
        host = address.removeprefix("tcp://").removeprefix("http://").removeprefix("https://")
        if not self._place.ca_file and not self._place.cert_file and not address.startswith("https://"):
            return aiohttp.TCPConnector(), f"http://{host}"
        context = ssl.create_default_context(cafile=self._place.ca_file or None)
        if self._place.cert_file:
            context.load_cert_chain(self._place.cert_file, self._place.key_file or None)
        if self._place.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return aiohttp.TCPConnector(ssl=context), f"https://{host}"

    def _read(self, method: str, status: int, body: bytes) -> dict[str, Any]:
        try:
            answer = json.loads(body or b"{}")
        except ValueError:
            answer = None
        message = str(answer.get("Err") or "") if isinstance(answer, dict) else ""
        if message:
            raise PluginRefusal(f"{method}: {message}", code="plugin-refused")
        if status != 200:
            raise PluginRefusal(
                f"{method}: plugin {self.name!r} answers with status {status}: {body[:500].decode(errors='replace')}",
                code="plugin-refused",
            )
        if not isinstance(answer, dict):
            raise Unavailable(f"{method}: plugin {self.name!r} does not answer with an object", code="plugin-broken")
        return answer


class PluginRefusal(InvalidArgument):
    """The plugin answered that it will not."""


def read_address(path: Path) -> PluginAddress:
    """Read a ``.spec`` (an address) or ``.json`` file (Name, Addr, TLSConfig). Raises InvalidArgument naming it."""
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".spec":
            return PluginAddress(name=path.stem, address=_checked(text.strip()))
        document = json.loads(text)
        tls = document.get("TLSConfig") or {}
        return PluginAddress(
            name=str(document.get("Name") or path.stem),
            address=_checked(str(document["Addr"])),
            ca_file=str(tls.get("CAFile") or ""),
            cert_file=str(tls.get("CertFile") or ""),
            key_file=str(tls.get("KeyFile") or ""),
            insecure=bool(tls.get("InsecureSkipVerify")),
        )
    except TareError as error:
        raise InvalidArgument(f"{path}: {error.message}", code="plugin-spec") from error
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise InvalidArgument(f"{path}: not a plugin's address: {error}", code="plugin-spec") from error


def _checked(address: str) -> str:
    if not address.startswith(("unix://", "tcp://", "http://", "https://")):
        raise InvalidArgument(f"unknown protocol in {address!r}")
    return address


def _cause(error: Exception) -> str:
    inner = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    return (inner.strerror if isinstance(inner, OSError) and inner.strerror else str(inner)) or type(error).__name__
