"""Images from the real archive, run for real."""

from __future__ import annotations

import asyncio
import os
import tarfile
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import date
from pathlib import Path

import pytest
from distroless_executor import RuncExecutor, run_in
from weighing_checks import (
    assert_bills_are_valid,
    assert_dpkg_agrees,
    assert_exact,
    assert_only_made_files_are_nobodys,
    assert_seen,
    inventory_of,
    mounted,
)

from tare.archive.filetree import FileTree
from tare.audit.auditing import Question, Subject, audit
from tare.audit.findings import Report, Severity
from tare.audit.policy import Policy
from tare.base.process import run
from tare.distroless.catalogue import DebianCatalogue
from tare.distroless.effects import JAVA_TRUST_STORE
from tare.distroless.pam import write_pam_configuration
from tare.distroless.recipes import RECIPES
from tare.distroless.settings import ArchiveSettings
from tare.engine.weigh import Weigher
from tare.errors import InternalError, NotFound, Unsupported
from tare.model import Digest, Platform, Reference
from tare.model.execution import ExecRequest, Output
from tare.store.images import Image
from tare.store.store import Store

pytestmark = [pytest.mark.root, pytest.mark.network, pytest.mark.timeout(180)]


class Bench:
    def __init__(self, store: Store, cache: Path, executor: object | None = None) -> None:
        self.store = store
        self.catalogue = DebianCatalogue(
            store,
            executor or RuncExecutor(store),  # type: ignore[arg-type]
            ArchiveSettings(),
            cache,
        )
        self.weigher = Weigher(store, cache / "weights")
        self.progress: list[tuple[str, str]] = []

    async def image(self, name: str) -> Image:
        reference = Reference.parse(name)
        digest = await self.catalogue.assemble(reference, Platform.host(), lambda *step: self.progress.append(step))
        image = await self.store.images.resolve(str(reference))
        assert image.id == digest
        return image

    def members(self, image: Image) -> dict[str, tarfile.TarInfo]:
        with tarfile.open(self.store.layers.path(image.diff_ids[0])) as archive:
            return {item.name: item for item in archive}

    def read(self, image: Image, path: str) -> bytes:
        with tarfile.open(self.store.layers.path(image.diff_ids[0])) as archive:
            stream = archive.extractfile(path)
            assert stream is not None
            return stream.read()

    def audit(self, image: Image) -> Report:
        """Everything, and the proof."""
        tars = tuple(self.store.layers.path(diff_id) for diff_id in image.diff_ids)
        subject = Subject(image=image.config, tars=tars, size=image.size)
        return audit(subject, Question(policy=Policy(distroless=True)), date(2026, 11, 25))

    @asynccontextmanager
    async def mounted(self, image: Image) -> AsyncIterator[Path]:
        lowers = [await self.store.snapshots.ensure_layer(diff_id) for diff_id in image.diff_ids]
        key = f"test-{image.id.hex}"
        await self.store.snapshots.prepare(key, lowers)
        with tempfile.TemporaryDirectory(prefix="distroless-test-") as name:
            await self.store.snapshots.mount(key, Path(name))
            try:
                yield Path(name)
            finally:
                await self.store.snapshots.unmount(Path(name))
                await self.store.snapshots.remove(key)

    async def run(self, name: str, *argv: str, host_network: bool = False) -> str:
        image = await self.image(name)
        async with self.mounted(image) as root:
            if host_network:
                (root / "etc/resolv.conf").touch()
            config = image.config.config
            status, output = await run_in(
                root, argv, env=config.env or (), user=int(config.user or 0), host_network=host_network
            )
        assert status == 0, output.decode()
        return output.decode()


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache of packages for all tests of the module; TARE_TEST_CACHE names one that stays."""
    kept = os.environ.get("TARE_TEST_CACHE")
    return Path(kept) if kept else tmp_path_factory.mktemp("distroless-cache")


@pytest.fixture
async def bench(tmp_path: Path, cache: Path) -> AsyncIterator[Bench]:
    store = await Store.open(tmp_path / "data")
    yield Bench(store, cache)
    await store.close()


LIMITS = {"static": 2_000_000, "base-nossl": 15_200_000, "base": 20_700_000, "java17": 230_000_000}
"""Bytes in files: what Google's distroless images of the same content have, about."""

SHELL = """set -e
test -z "$(dpkg --audit)"
dpkg-query -W -f '${db:Status-Abbrev}\\n' | grep -v '^ii ' && exit 1
. /etc/os-release; test "$VERSION_ID" = 12
apt-get update -qq
apt-get install -qq --no-install-recommends hello >/dev/null 2>&1
hello
"""


def assert_pam_agrees(root: Path) -> None:
    """The assembler makes of the profiles what pam-auth-update has made of them here."""
    tree = FileTree()
    for path in (*(root / "usr/share/pam-configs").iterdir(), *(root / "usr/share/pam").iterdir()):
        tree.add_file(str(path.relative_to(root)), path.read_bytes())
    write_pam_configuration(tree)
    for kind in ("auth", "account", "password", "session", "session-noninteractive"):
        assert tree.read(f"etc/pam.d/common-{kind}") == (root / f"etc/pam.d/common-{kind}").read_bytes(), kind


async def assert_the_same_elsewhere(image: Image, other: Path, cache: Path) -> None:
    """Another engine with the same packages makes the same bytes."""
    store = await Store.open(other)
    try:
        for note in (cache / "assembled").iterdir():
            note.unlink()
        assert (await Bench(store, cache).image(str(image.tags[0]))).id == image.id
    finally:
        await store.close()


async def test_debian_is_configured_installs_packages_and_is_always_the_same(
    bench: Bench, tmp_path: Path, cache: Path
) -> None:
    output = await bench.run("tare.local/debian:12", "/bin/bash", "-c", SHELL, host_network=True)
    assert output.splitlines()[-1] == "Hello, world!"
    image = await bench.image("tare.local/debian:bookworm")
    assert image.config.config.cmd == ["bash"]
    assert "apt" in image.config.history[0].created_by
    members = bench.members(image)
    assert members["bin"].linkname == "usr/bin"
    assert not [
        name for name in members if name.endswith(("-old", "dpkg.log")) or name.startswith("var/cache/ldconfig/")
    ]
    assert not [name for name, item in members.items() if item.isfile() and name.startswith("usr/share/man/")]
    assert "usr/share/doc/bash/copyright" in members
    found = await assert_exact(bench.store, bench.weigher, image)
    await assert_seen(bench.store, found, image)
    async with mounted(bench.store, image) as root:
        assert_dpkg_agrees(inventory_of(bench.store, image), root)
        assert_pam_agrees(root)
    report = bench.audit(image)
    assert report.proof is not None and not report.proof.holds
    faults = {(one.rule, one.path) for one in report.findings}
    assert {path for rule, path in faults if rule == "shell"} == {"/usr/bin/bash", "/usr/bin/dash"}
    assert faults >= {
        ("package-manager", "/usr/bin/dpkg"), ("package-manager", "/usr/bin/apt-get"), ("setuid", "/usr/bin/passwd"),
        ("outside-closure", "/usr/bin/perl"), ("outside-closure", "/usr/bin/gunzip"),
    }  # fmt: skip
    assert not [one for one in report.findings if one.rule in ("modified-file", "hidden-program", "secret-key")]
    await assert_the_same_elsewhere(image, tmp_path / "other", cache)


async def test_up_to_date_images_are_not_assembled_again(bench: Bench) -> None:
    first = await bench.image("tare.local/distroless/static")
    bench.progress.clear()
    assert (await bench.image("tare.local/distroless/static")).id == first.id
    assert [step for step, _ in bench.progress] == ["archive"]
    assert (await bench.image("tare.local/distroless/static:12")).diff_ids == first.diff_ids


async def test_one_assembly_for_many_callers(bench: Bench) -> None:
    names = ["tare.local/distroless/static:12"] * 4
    images = await asyncio.gather(*(bench.image(name) for name in names))
    assert len({image.id for image in images}) == 1
    assert sum(text.endswith("packages") for step, text in bench.progress if step == "assemble") == 1


@pytest.mark.parametrize("name", list(RECIPES))
async def test_distroless_content(bench: Bench, name: str) -> None:
    image = await bench.image(f"tare.local/distroless/{name}:nonroot")
    assert image.size == pytest.approx(RECIPES[name].size, rel=0.05), "what tare catalogue says"
    config = image.config.config
    assert (config.user, config.working_dir) == ("65532", "/home/nonroot")
    assert "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt" in (config.env or [])
    members = bench.members(image)
    assert sum(item.size for item in members.values() if item.isfile()) <= LIMITS.get(name, image.size)
    assert not [item.name for item in members.values() if item.isfile() and item.mode & 0o6000]
    programs = {path.rpartition("/")[2] for path in members if path.startswith(("usr/bin/", "usr/sbin/"))}
    assert not programs & {"sh", "bash", "dash", "busybox", "apt", "dpkg", "perl", "awk", "tar"}
    assert (members["tmp"].mode, members["home/nonroot"].uid) == (0o1777, 65532)
    assert {"var/lib/dpkg/status.d/tzdata", "var/lib/dpkg/status.d/tzdata.md5sums", "etc/os-release"} <= members.keys()
    assert b"nonroot:x:65532:65532:" in bench.read(image, "etc/passwd")
    assert bench.read(image, "etc/ssl/certs/ca-certificates.crt").count(b"BEGIN CERTIFICATE") > 100
    assert "usr/share/zoneinfo/Europe/Berlin" in members
    assert not [path for path in members if path.startswith(("usr/share/man/", "usr/share/locale/", "etc/init.d/"))]
    if RECIPES[name].service is None:
        await assert_exact(bench.store, bench.weigher, image)
    assert_only_made_files_are_nobodys(inventory_of(bench.store, image))
    report = bench.audit(image)
    assert report.proof is not None and report.proof.holds, report.findings
    assert report.proof.entrypoint == tuple((config.entrypoint or [])[:1])
    assert [one for one in report.findings if one.severity >= Severity.MEDIUM] == []


async def test_python(bench: Bench) -> None:
    program = "import ssl, sqlite3, zoneinfo, sys; print(ssl.create_default_context().cert_store_stats()['x509'] > 100)"
    assert await bench.run("tare.local/distroless/python3:nonroot", "/usr/bin/python3", "-c", program) == "True\n"


async def test_java_reads_its_trust_store(bench: Bench) -> None:
    name = "tare.local/distroless/java17:nonroot"
    assert 'openjdk version "17.' in await bench.run(name, "/usr/bin/java", "-version")
    image = await bench.image(name)
    assert image.config.config.entrypoint == ["/usr/bin/java", "-jar"]
    assert any(item.startswith("JAVA_VERSION=17.") for item in image.config.config.env or [])
    keytool = next(path for path in bench.members(image) if path.endswith("/bin/keytool"))
    listed = await bench.run(name, f"/{keytool}", "-list", "-cacerts", "-storepass", "changeit")
    certificates = bench.read(image, "etc/ssl/certs/ca-certificates.crt").count(b"BEGIN CERTIFICATE")
    assert f"Your keystore contains {certificates} entries" in listed
    assert bench.read(image, JAVA_TRUST_STORE)[:4] == b"\xfe\xed\xfe\xed"


async def test_base_runs_dynamic_programs_and_debug_has_a_shell(bench: Bench) -> None:
    name = "tare.local/distroless/base:debug"
    output = await bench.run(name, "/busybox/sh", "-c", "id -u; ls /lib64; /lib64/ld-linux-x86-64.so.2 --version")
    assert output.splitlines()[0] == "0"
    assert "stable release version 2.36" in output
    image = await bench.image(name)
    assert image.config.config.entrypoint == ["/busybox/sh"]
    listed = (await bench.run(name, "/busybox/busybox", "--list")).split()
    links = {path.removeprefix("busybox/") for path in bench.members(image) if path.startswith("busybox/")}
    assert links == set(listed) | {"busybox"}
    assert_only_made_files_are_nobodys(inventory_of(bench.store, image))
    await assert_bills_are_valid(bench.store, image, name)
    report = bench.audit(image)
    assert report.proof is not None and not report.proof.holds
    assert ("shell", "/busybox/busybox") in {(one.rule, one.path) for one in report.findings}


@pytest.mark.parametrize(
    ("name", "argv", "expected"),
    [
        ("nginx-light", ("/usr/sbin/nginx", "-t"), "test is successful"),
    ],
)
async def test_packages_by_name(bench: Bench, name: str, argv: Sequence[str], expected: str) -> None:
    assert expected in await bench.run(f"tare.local/deb/{name}:12", *argv)
    image = await bench.image(f"tare.local/deb/{name}:12")
    await assert_seen(bench.store, await assert_exact(bench.store, bench.weigher, image), image)
    assert_only_made_files_are_nobodys(inventory_of(bench.store, image))


async def test_unknown_names(bench: Bench) -> None:
    for name, message in (
        ("tare.local/distroless/pyhton3", r"did you mean tare.local/distroless/python3\?"),
        ("tare.local/debian:13", "the tags are latest, 12, bookworm"),
        ("tare.local/deb/ngnix-light:12", r"package ngnix-light is not in the archive.*nginx-light"),
        ("tare.local/distroless/base:12-nonrooot", "No such image"),
    ):
        with pytest.raises(NotFound, match=message):
            await bench.image(name)
    with pytest.raises(Unsupported, match="cannot be configured"):
        await bench.catalogue.assemble(
            Reference.parse("tare.local/debian:12"), Platform("linux", "arm64"), lambda *_: None
        )
    assert await bench.store.images.list() == []


async def test_another_architecture(bench: Bench) -> None:
    reference = Reference.parse("tare.local/distroless/base:12")
    digest: Digest = await bench.catalogue.assemble(reference, Platform("linux", "arm64"), lambda *_: None)
    image = await bench.store.images.get(digest)
    assert image.config.architecture == "arm64"
    assert "usr/lib/aarch64-linux-gnu/libc.so.6" in bench.members(image)
    report = bench.audit(image)
    assert report.proof is not None and report.proof.holds, report.findings
    assert any("aarch64" in path for path, _ in report.proof.closure)
    own = await bench.image(str(reference))
    assert own.config.architecture == "amd64"
    assert {one.id for one in await bench.store.images.named(reference)} == {image.id, own.id}  # beside each other


class FailingExecutor:
    async def execute(self, request: ExecRequest, output: Output) -> int:
        assert request.network == "none"
        output("stderr", b"dpkg: error processing package base-files\n")
        return 1


async def test_a_failing_second_stage_leaves_nothing(bench: Bench, cache: Path, tmp_path: Path) -> None:
    for note in (cache / "assembled").glob("*"):
        note.unlink()
    failing = Bench(bench.store, cache, FailingExecutor())
    with pytest.raises(InternalError, match=r"exit status 1:\ndpkg: error processing package base-files"):
        await failing.image("tare.local/debian:12")
    assert await bench.store.images.list() == []
    assert [path.name for path in (tmp_path / "data/snapshots").iterdir() if path.name.isdigit()] == []
    assert list(cache.glob("unpacked-*")) == []
    mounts = (await run(["findmnt", "-rno", "TARGET"])).stdout.decode()
    assert str(tmp_path) not in mounts
