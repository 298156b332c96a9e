"""The client against a real registry: Debian's docker-registry, plain, and with TLS and users."""

from __future__ import annotations

import asyncio
import os
import subprocess
from pathlib import Path

import pytest

from certificates import Authority
from registry_parts import Blob, ClientMaker, config_blob, image_of, nothing, repository_name
from registry_server import RegistryServer
from tare.errors import NotFound, TareError, Unauthorized, Unavailable
from tare.model import Digest
from tare.oci.image import Index
from tare.registry.client import RegistryClient
from tare.registry.credentials import Credentials
from tare.registry.manifests import RawManifest, parse
from tare.registry.settings import RegistrySettings
from tare.registry.uploads import CHUNK
from token_server import token_server

ANN = Credentials("ann", "secret")


async def push(
    client: RegistryClient, domain: str, path: str, *layers: Blob, who: Credentials | None = None
) -> RawManifest:
    """An image in the registry, as ``path:one``."""
    target = client.repository(repository_name(domain, path), who, push=True)
    config = config_blob()
    for blob in (config, *layers):
        await target.upload_blob(blob, nothing)
    manifest = image_of(config, *layers)
    assert await target.put_manifest("one", manifest) == manifest.digest
    return manifest


async def check_round_trip(client: RegistryClient, domain: str, who: Credentials | None) -> None:
    layers = Blob(b""), Blob(os.urandom(3_000_000))
    raw = await push(client, domain, "app/trip", *layers, who=who)
    source = client.repository(repository_name(domain, "app/trip"), who)
    assert await source.manifest("one") == raw
    assert await source.manifest(str(raw.digest)) == raw
    assert await source.has_manifest("one") == raw.descriptor
    assert await source.has_manifest("two") is None
    assert await source.tags() == ["one"]
    manifest = parse(raw)
    assert not isinstance(manifest, Index)
    for layer, blob in zip(manifest.layers, layers, strict=True):
        steps: list[int] = []
        path = await source.download(layer, steps.append)
        assert path.read_bytes() == blob.data
        assert steps[-1] == blob.size
        assert await source.has_blob(blob.digest) == blob.size
        await source.discard(blob.digest)
        assert not path.exists()


async def test_round_trip(plain_registry: RegistryServer, make_client: ClientMaker) -> None:
    await check_round_trip(make_client(), plain_registry.address, None)


async def test_round_trip_with_tls_and_user(
    closed_registry: RegistryServer, authority: Authority, make_client: ClientMaker
) -> None:
    sections = {closed_registry.address: RegistrySettings(ca=str(authority.certificate))}
    await check_round_trip(make_client(sections), closed_registry.address, ANN)


async def test_a_large_blob_goes_in_chunks(plain_registry: RegistryServer, make_client: ClientMaker) -> None:
    blob = Blob(b"0123456789abcdef" * ((CHUNK + 1_000_000) // 16))
    target = make_client().repository(repository_name(plain_registry.address, "app/large"), push=True)
    steps: list[int] = []
    await target.upload_blob(blob, steps.append)
    assert await target.has_blob(blob.digest) == blob.size
    assert steps[-1] == blob.size
    assert steps == sorted(steps)
    patches = [line for line in plain_registry.requests("PATCH") if "/app/large/" in line]
    assert len(patches) == 2


async def test_mounts_between_repositories(plain_registry: RegistryServer, make_client: ClientMaker) -> None:
    client, blob = make_client(), Blob(b"to be mounted")
    await client.repository(repository_name(plain_registry.address, "app/from"), push=True).upload_blob(blob, nothing)
    target = client.repository(repository_name(plain_registry.address, "app/to"), push=True)
    assert await target.has_blob(blob.digest) is None
    assert await target.mount_blob(blob.digest, "app/from")
    assert await target.has_blob(blob.digest) == blob.size
    assert not await target.mount_blob(Digest.of(b"nowhere"), "app/from")


async def skopeo(*arguments: str) -> bytes:
    """What skopeo, a client of other hands, prints."""
    done = await asyncio.to_thread(subprocess.run, ["skopeo", *arguments], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


async def test_skopeo_reads_what_is_pushed_and_pushes_what_is_read(
    plain_registry: RegistryServer, make_client: ClientMaker, tmp_path: Path
) -> None:
    client, domain, layer = make_client(), plain_registry.address, Blob(os.urandom(100_000))
    raw = await push(client, domain, "app/ours", layer)
    ours, theirs, place = (
        f"docker://{domain}/app/ours:one",
        f"docker://{domain}/app/theirs:one",
        f"dir:{tmp_path}/image",
    )
    assert await skopeo("inspect", "--tls-verify=false", "--raw", ours) == raw.data
    await skopeo("--insecure-policy", "copy", "--src-tls-verify=false", ours, place)  # verifies all digests
    await skopeo("--insecure-policy", "copy", "--preserve-digests", "--dest-tls-verify=false", place, theirs)
    source = client.repository(repository_name(domain, "app/theirs"))
    assert await source.manifest("one") == raw
    assert (await source.download(layer.descriptor, nothing)).read_bytes() == layer.data


async def test_the_registrys_words(plain_registry: RegistryServer, make_client: ClientMaker) -> None:
    client, domain = make_client(), plain_registry.address
    await push(client, domain, "app/words")
    known = client.repository(repository_name(domain, "app/words"))
    with pytest.raises(NotFound) as missing:
        await known.manifest("nope")
    assert (
        missing.value.message == f"manifest for {domain}/app/words:nope not found: manifest unknown: manifest unknown"
    )
    absent = Digest.of(b"absent")
    with pytest.raises(NotFound) as by_digest:
        await known.manifest(str(absent))
    assert by_digest.value.message.startswith(f"manifest for {domain}/app/words@{absent} not found: manifest unknown")
    with pytest.raises(NotFound) as unknown:
        await client.repository(repository_name(domain, "app/none")).tags()
    assert unknown.value.message == (
        f"repository {domain}/app/none not found: name unknown: repository name not known to registry"
    )
    with pytest.raises(NotFound, match="unknown blob"):
        await known.download(Blob(b"absent").descriptor, nothing)


async def failure(client: RegistryClient, domain: str, who: Credentials | None = None) -> TareError:
    with pytest.raises(TareError) as caught:
        await client.repository(repository_name(domain), who).manifest("one")
    return caught.value


async def test_without_the_right_user(
    closed_registry: RegistryServer, authority: Authority, make_client: ClientMaker
) -> None:
    domain = closed_registry.address
    client = make_client({domain: RegistrySettings(ca=str(authority.certificate))})
    anonymous = await failure(client, domain)
    assert isinstance(anonymous, Unauthorized)
    assert anonymous.message == f'Head "https://{domain}/v2/app/one/manifests/one": no basic auth credentials'
    wrong = await failure(client, domain, Credentials("ann", "wrong"))
    assert isinstance(wrong, Unauthorized)
    assert wrong.message == "unauthorized: authentication required"
    assert await client.check_login(domain, ANN) == ""
    with pytest.raises(Unauthorized) as refused:
        await client.check_login(domain, Credentials("ann", "wrong"))
    assert refused.value.message == f"login attempt to https://{domain}/v2/ failed with status: 401 Unauthorized"


async def test_certificates_decide(
    closed_registry: RegistryServer, authority: Authority, make_client: ClientMaker, tmp_path: Path
) -> None:
    domain = closed_registry.address
    strict = await failure(make_client({domain: RegistrySettings(insecure=False)}), domain, ANN)
    assert isinstance(strict, Unavailable)
    assert strict.message == (
        f'Get "https://{domain}/v2/": tls: failed to verify certificate: x509: certificate signed by unknown authority'
    )
    assert strict.hint.endswith(f"/etc/tare/certs.d/{domain}/ca.crt")
    # loopback may be unverified, as in Docker
    assert isinstance(await failure(make_client(), domain, ANN), NotFound)
    place = tmp_path / "certs.d" / domain
    place.mkdir(parents=True)
    (place / "authority.crt").write_bytes(authority.certificate.read_bytes())
    settings = {domain: RegistrySettings(insecure=False)}
    by_directory = make_client(settings, certificates=(str(tmp_path / "certs.d"),))
    assert isinstance(await failure(by_directory, domain, ANN), NotFound)
    other = Authority(tmp_path, "other")
    elsewhere = make_client({domain: RegistrySettings(ca=str(other.certificate))})
    assert "certificate signed by unknown authority" in (await failure(elsewhere, domain, ANN)).message


async def test_client_certificates(authority: Authority, make_client: ClientMaker, tmp_path: Path) -> None:
    with RegistryServer(tls=authority.issue("server-2"), client_authority=authority.certificate) as server:
        domain = server.address
        without = make_client({domain: RegistrySettings(ca=str(authority.certificate))})
        refused = await failure(without, domain)
        assert refused.message == f'Get "https://{domain}/v2/": remote error: tls: bad certificate'
        shown = authority.issue("client")
        settings = RegistrySettings(
            ca=str(authority.certificate), certificate=str(shown.certificate), key=str(shown.key)
        )
        assert isinstance(await failure(make_client({domain: settings}), domain), NotFound)


async def test_tokens_that_a_real_registry_verifies(make_client: ClientMaker, tmp_path: Path) -> None:
    async with token_server(tmp_path) as tokens:
        tokens.allowed = {"app/from": frozenset({"pull", "push"}), "app/to": frozenset({"pull", "push"})}
        with RegistryServer(environment=tokens.environment) as server:
            domain, client, blob = server.address, make_client(), Blob(b"to be mounted")
            raw = await push(client, domain, "app/from", blob, who=ANN)
            assert await client.repository(repository_name(domain, "app/from"), ANN).manifest("one") == raw
            target = client.repository(repository_name(domain, "app/to"), ANN, push=True)
            assert await target.mount_blob(blob.digest, "app/from")
            assert await client.check_login(domain, ANN) == ""
            tokens.allowed = {"app/read": frozenset({"pull"})}
            with pytest.raises(TareError) as denied:
                await push(client, domain, "app/read", who=ANN)
            assert denied.value.message == "denied: requested access to the resource is denied"
            with pytest.raises(NotFound) as hidden:
                await client.repository(repository_name(domain, "app/none"), ANN).manifest("one")
            assert hidden.value.message == (
                f"pull access denied for {domain}/app/none, repository does not exist or may require 'docker login': "
                "denied: requested access to the resource is denied"
            )
            # one token for what is pushed, one for what is read, one for both repositories of the mount, one to log in,
            # and for each refused request one more attempt
            assert len(tokens.server.requests("GET", "/token")) == 8
