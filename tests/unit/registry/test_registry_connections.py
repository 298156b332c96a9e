"""Why connections fail, in the words that Docker's clients know; connections through proxies."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from certificates import Authority, Certificate
from hostile_registry import hostile_registry
from registry_parts import ClientMaker, repository_name
from registry_server import RegistryServer
from tare.errors import TareError, Unavailable
from tare.registry.client import RegistryClient
from tare.registry.credentials import Credentials
from tare.registry.settings import RegistrySettings

DOMAIN = "registry.test"


async def failure(client: RegistryClient) -> TareError:
    with pytest.raises(Unavailable) as caught:
        await client.repository(repository_name(DOMAIN)).manifest("one")
    assert caught.value.code == "registry-unreachable"
    return caught.value


def tls_server(shown: Certificate) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(shown.certificate, shown.key)
    return context


@asynccontextmanager
async def raw_server(answer: bytes) -> AsyncIterator[str]:
    """Sends ``answer`` to whoever connects, and hangs up; yields host and port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


@asynccontextmanager
async def connect_proxy(seen: list[str]) -> AsyncIterator[str]:
    """A proxy for CONNECT (RFC 9110, 9.3.6); ``seen`` gets the head of each request. Yields its URL."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        seen.append(head)
        host, _, port = head.split()[1].rpartition(":")
        there, to_there = await asyncio.open_connection(host, int(port))
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await asyncio.gather(pump(reader, to_there), pump(there, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://ann:secret@127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_a_certificate_of_somebody_else(authority: Authority, make_client: ClientMaker) -> None:
    shown = authority.issue("elsewhere", subject_names="DNS:elsewhere.test")
    async with hostile_registry(tls_server(shown)) as server:
        settings = RegistrySettings(endpoint=server.url, ca=str(authority.certificate))
        error = await failure(make_client({DOMAIN: settings}))
        assert error.message == (
            f'Get "{server.url}/v2/": tls: failed to verify certificate: x509: certificate is not valid for 127.0.0.1'
        )
        assert make_client.clock.pauses == []


async def test_a_plain_server_where_tls_is_due(make_client: ClientMaker) -> None:
    async with hostile_registry() as server:
        settings = RegistrySettings(endpoint=f"https://{server.host}", insecure=False)
        error = await failure(make_client({DOMAIN: settings}))
        assert error.message == f'Get "https://{server.host}/v2/": http: server gave HTTP response to HTTPS client'
        assert error.hint == 'if you trust the network, set [registries."registry.test"] insecure = true'


async def test_insecure_falls_back_to_http(make_client: ClientMaker) -> None:
    async with hostile_registry() as server:
        client = make_client({DOMAIN: RegistrySettings(endpoint=f"https://{server.host}", insecure=True)})
        assert await client.check_login(DOMAIN, Credentials("ann", "secret")) == ""


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"", "EOF"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nab", "unexpected EOF"),
        (b"nonsense\r\n\r\n", "Bad status line"),
    ],
)
async def test_servers_that_make_no_sense(make_client: ClientMaker, answer: bytes, words: str) -> None:
    async with raw_server(answer) as host:
        client = make_client({DOMAIN: RegistrySettings(endpoint=f"http://{host}")})
        with pytest.raises(Unavailable, match=words):
            await client.repository(repository_name(DOMAIN)).manifest("one")


async def test_encrypted_through_a_proxy(
    closed_registry: RegistryServer, authority: Authority, make_client: ClientMaker
) -> None:
    seen: list[str] = []
    async with connect_proxy(seen) as proxy:
        settings = RegistrySettings(endpoint=closed_registry.url, ca=str(authority.certificate), proxy=proxy)
        client = make_client({DOMAIN: settings})
        assert await client.check_login(DOMAIN, Credentials("ann", "secret")) == ""
        await client.close()
    assert seen
    assert all(head.startswith(f"CONNECT {closed_registry.address} HTTP/1.1\r\n") for head in seen)
    assert all("Proxy-Authorization: Basic YW5uOnNlY3JldA==" in head for head in seen)


async def test_a_proxy_that_is_not_there(make_client: ClientMaker) -> None:
    settings = RegistrySettings(endpoint="https://registry.invalid", proxy="http://127.0.0.1:1")
    error = await failure(make_client({DOMAIN: settings}))
    assert error.message == (
        'Get "https://registry.invalid/v2/": proxyconnect tcp: dial tcp 127.0.0.1:1: connect: connection refused'
    )
