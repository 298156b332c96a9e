"""Fetching from real servers on loopback."""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import io
import os
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from source_servers import (
    COMMIT_TIME,
    Answer,
    SourceServer,
    commit,
    git,
    git_daemon,
    make_repository,
    source_server,
)
from tare.build.sources.addresses import GitAddress, parse_git, parse_http, parse_remote
from tare.build.sources.fetcher import Credentials, Sources
from tare.build.sources.limits import SourceLimits
from tare.errors import (
    Conflict,
    DataCorrupt,
    Exhausted,
    Forbidden,
    InvalidArgument,
    NotFound,
    TareError,
    Unauthorized,
    Unavailable,
)

NOBODY = Credentials()
TIME = "Wed, 21 Oct 2015 07:28:00 GMT"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SourceServer]:
    with source_server(tmp_path / "repositories") as running:
        yield running


@pytest.fixture
def repository(server: SourceServer) -> Path:
    place = server.repositories / "r.git"
    make_repository(place, {"Dockerfile": "FROM scratch\n", "sub/page": "one\n", "run": "x"})
    (place / "run").chmod(0o755)
    (place / "link").symlink_to("sub/page")
    commit(place, {}, "mode and link")
    return place


@pytest.fixture
def sources(tmp_path: Path) -> Sources:
    return Sources(tmp_path / "sources")


def address(server: SourceServer, rest: str = "") -> GitAddress:
    found = parse_git(server.url(f"/git/r.git{rest}"))
    assert found is not None
    return found


def tar_of(*members: tuple[str, bytes], **attributes: object) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size, info.uid, info.gid = len(data), os.getuid(), os.getgid()
            for attribute, value in attributes.items():
                setattr(info, attribute, value)
            archive.addfile(info, io.BytesIO(data))
    return sink.getvalue()


async def fetch_git(sources: Sources, wanted: GitAddress, **options: bool) -> Path:
    async with sources.git(await sources.resolve_git(wanted, NOBODY, **options), NOBODY) as place:
        return place


async def fails(sources: Sources, wanted: GitAddress, given: Credentials = NOBODY) -> TareError:
    with pytest.raises(TareError) as caught:
        async with sources.git(await sources.resolve_git(wanted, given), given):
            pass
    return caught.value


async def test_the_default_branch(sources: Sources, server: SourceServer, repository: Path) -> None:
    found = await sources.resolve_git(address(server), NOBODY)
    assert (found.commit, found.ref) == (git(repository, "rev-parse", "HEAD"), "refs/heads/main")
    place = await fetch_git(sources, address(server))
    assert sorted(item.name for item in place.iterdir()) == ["Dockerfile", "link", "run", "sub"]
    assert (place / "sub/page").read_text() == "one\n"
    assert (place / "link").readlink() == Path("sub/page")
    assert (place / "run").stat().st_mode & 0o777 == 0o755
    assert (place / "sub/page").stat().st_mode & 0o777 == 0o644
    assert {item.lstat().st_mtime for item in (place, *place.rglob("*"))} == {COMMIT_TIME}


async def test_a_commit_that_is_here_asks_nobody(sources: Sources, server: SourceServer, repository: Path) -> None:
    head = git(repository, "rev-parse", "HEAD")
    first = await fetch_git(sources, address(server, f"#{head}"))
    server.asked.clear()
    assert await fetch_git(sources, address(server, f"#{head}")) == first
    assert server.asked == []
    await fetch_git(sources, address(server, "#main"))
    assert [line for line in server.asked if line.startswith("POST")] == [
        "POST /git/r.git/git-upload-pack 200"
    ]  # what refs there are, and no objects


async def test_refs_and_subdirectories(sources: Sources, server: SourceServer, repository: Path) -> None:
    old = git(repository, "rev-parse", "HEAD")
    git(repository, "tag", "-a", "-m", "x", "v1")
    git(repository, "tag", "both")
    new = commit(repository, {"sub/page": "two\n"}, "second")
    git(repository, "branch", "both")
    for ref, wanted in (("v1", old), ("refs/tags/v1", old), ("main", new), ("both", new), ("refs/tags/both", old)):
        assert (await sources.resolve_git(address(server, f"#{ref}"), NOBODY)).commit == wanted, ref
    place = await fetch_git(sources, address(server, "#v1:sub"))
    assert [item.name for item in place.iterdir()] == ["page"]
    assert (place / "page").read_text() == "one\n"
    for rest, text in ((f"#{old}:/sub/", "one\n"), ("?branch=main&subdir=sub", "two\n")):
        assert ((await fetch_git(sources, address(server, rest))) / "page").read_text() == text


async def test_bad_refs_and_subdirectories(sources: Sources, server: SourceServer, repository: Path) -> None:
    error = await fails(sources, address(server, "#none"))
    assert isinstance(error, NotFound) and "repository does not contain ref none" in error.message and error.hint
    error = await fails(sources, address(server, f"#{'0' * 40}"))
    assert isinstance(error, NotFound) and "does not contain the commit" in error.message
    for subdir, cause in (("none", "does not exist"), ("run", "is not a directory"), (".git", "does not exist")):
        error = await fails(sources, address(server, f"#main:{subdir}"))
        assert isinstance(error, NotFound) and f"{subdir!r} {cause}" in error.message
    missing = parse_git(server.url("/git/none.git"))
    assert missing is not None
    error = await fails(sources, missing)
    assert isinstance(error, NotFound) and "not found" in error.message
    assert sources.store._held == {}
    assert [item.name for item in sources.store._directory.iterdir() if item.name.startswith(".")] == []


async def test_a_subdirectory_cannot_lead_outside(sources: Sources, server: SourceServer, repository: Path) -> None:
    (repository / "out").symlink_to("/etc")
    commit(repository, {}, "link")
    for subdir in ("out", "../../etc", "/etc"):
        assert isinstance(await fails(sources, address(server, f"#main:{subdir}")), NotFound)


async def test_checksums(sources: Sources, server: SourceServer, repository: Path) -> None:
    git(repository, "tag", "-a", "-m", "x", "v1")
    head, tag = git(repository, "rev-parse", "HEAD"), git(repository, "rev-parse", "v1")
    for checksum in (head, head[:7], tag):
        assert (await sources.resolve_git(address(server, f"?checksum={checksum}#v1"), NOBODY)).commit == head
    error = await fails(sources, address(server, "?checksum=0000000#main"))
    assert isinstance(error, InvalidArgument) and error.code == "checksum-mismatch" and head in error.message
    error = await fails(sources, address(server, f"?checksum=0000000#{head}"))
    assert error.code == "checksum-mismatch"


async def test_the_git_directory_is_kept_on_request(sources: Sources, server: SourceServer, repository: Path) -> None:
    git(repository, "tag", "-a", "-m", "x", "v1")
    found = parse_git(f"http://user:secret@{server.address}/git/r.git#v1")
    assert found is not None
    place = await fetch_git(sources, found, keep_git_dir=True)
    assert git(place, "-c", f"safe.directory={place}", "describe", "--tags") == "v1"
    assert git(place, "-c", f"safe.directory={place}", "status", "--porcelain") == ""
    kept = b"".join(item.read_bytes() for item in (place / ".git").rglob("*") if item.is_file())
    assert b"secret" not in kept
    assert not (await fetch_git(sources, found)).joinpath(".git").exists()
    found = parse_git(server.url("/git/r.git#main:sub"))
    assert found is not None
    assert not (await fetch_git(sources, found, keep_git_dir=True)).joinpath(".git").exists()


async def test_submodules(sources: Sources, server: SourceServer, repository: Path) -> None:
    make_repository(server.repositories / "other.git", {"inner": "inner\n"})
    git(repository, "submodule", "--quiet", "add", server.url("/git/other.git"), "module")
    commit(repository, {}, "submodule")
    place = await fetch_git(sources, address(server))
    assert (place / "module/inner").read_text() == "inner\n"
    assert not (place / "module/.git").exists()
    assert list((await fetch_git(sources, address(server, "?submodules=false")) / "module").iterdir()) == []


async def test_a_submodule_cannot_be_a_local_repository(
    sources: Sources, server: SourceServer, repository: Path, tmp_path: Path
) -> None:
    make_repository(tmp_path / "private", {"secret": "secret\n"})
    git(repository, "submodule", "--quiet", "add", str(tmp_path / "private"), "module")
    for url in (str(tmp_path / "private"), f"file://{tmp_path}/private", f"ext::sh -c touch%%20{tmp_path}/owned"):
        git(repository, "config", "-f", ".gitmodules", "submodule.module.url", url)
        commit(repository, {}, f"submodule {url}")
        error = await fails(sources, address(server))
        assert "not allowed" in error.message
    assert not (tmp_path / "owned").exists()


async def test_credentials_reach_the_server_and_nothing_else(
    sources: Sources, server: SourceServer, repository: Path
) -> None:
    server.authorization = f"basic {base64.b64encode(b'user:p@ss').decode()}"
    error = await fails(sources, address(server))
    assert isinstance(error, Unauthorized) and "GIT_AUTH_TOKEN" in error.hint
    found = parse_git(f"http://user:p%40ss@{server.address}/git/r.git#main")
    wrong = parse_git(f"http://user:wrong@{server.address}/git/r.git#main")
    assert found is not None and wrong is not None
    assert (await fetch_git(sources, found)).is_dir()
    error = await fails(sources, wrong)
    assert "wrong" not in str(error) and "xxxxx" in str(error)
    server.authorization = f"basic {base64.b64encode(b'x-access-token:t0ken').decode()}"
    for name in ("GIT_AUTH_TOKEN", f"GIT_AUTH_TOKEN.{server.address}"):
        assert await sources.resolve_git(address(server), Credentials(secrets={name: b"t0ken\n"}))
    server.authorization = "Bearer x"
    assert await sources.resolve_git(address(server), Credentials(secrets={"GIT_AUTH_HEADER": b"Bearer x"}))


async def test_limits_of_repositories(tmp_path: Path, server: SourceServer, repository: Path) -> None:
    commit(repository, {"random": os.urandom(200_000).hex()}, "large")
    few = Sources(tmp_path / "few", SourceLimits(archive_entries=3))
    error = await fails(few, address(server))
    assert isinstance(error, Exhausted) and "3 files" in error.message and "max_archive_entries" in error.hint
    small = Sources(tmp_path / "small", SourceLimits(archive_bytes=100_000))
    assert "100000 bytes of files" in (await fails(small, address(server))).message
    tiny = Sources(tmp_path / "tiny", SourceLimits(download=50_000))
    error = await fails(tiny, address(server))
    assert "50000 bytes" in error.message and "max_download_bytes" in error.hint


async def test_a_cancelled_fetch_ends_its_programs(tmp_path: Path) -> None:
    """A server that never answers: git and its helper are gone when the cancellation is through."""
    reached, release = asyncio.Event(), asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reached.set()
        await release.wait()
        writer.close()

    listener = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    sources = Sources(tmp_path / "sources")
    wanted = parse_git(f"http://127.0.0.1:{port}/r.git")
    assert wanted is not None
    task = asyncio.ensure_future(sources.resolve_git(wanted, NOBODY))
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    release.set()
    listener.close()
    await listener.wait_closed()
    assert not any(f"127.0.0.1:{port}" in line for line in command_lines())
    quick = Sources(tmp_path / "quick", SourceLimits(seconds=0))
    with pytest.raises(Unavailable, match="no result within"):
        await quick.resolve_git(wanted, NOBODY)


def command_lines() -> list[str]:
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(place.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return found


async def test_gits_own_protocol(sources: Sources, server: SourceServer, repository: Path) -> None:
    with git_daemon(server.repositories) as host:
        wanted = parse_git(f"git://{host}/r.git#main:sub")
        assert wanted is not None
        assert [item.name for item in (await fetch_git(sources, wanted)).iterdir()] == ["page"]


async def test_a_server_that_gives_no_single_commits(sources: Sources, server: SourceServer, repository: Path) -> None:
    """Protocol version 0 without the permission: all branches are fetched instead."""
    old = git(repository, "rev-parse", "HEAD~1")
    git(repository, "config", "uploadpack.allowAnySHA1InWant", "false")
    server.protocol = "version=0"
    place = await fetch_git(sources, address(server, f"#{old}"))
    assert (place / "Dockerfile").exists() and not (place / "link").is_symlink()
    error = await fails(sources, address(server, f"#{'1' * 40}"))
    assert isinstance(error, NotFound) and "does not contain the commit" in error.message


async def test_a_repository_with_long_names(sources: Sources, server: SourceServer) -> None:
    place = server.repositories / "r.git"
    place.mkdir(parents=True)
    git(place, "init", "-q", "-b", "main", "--object-format=sha256")
    head = commit(place, {"page": "one\n"}, "first")
    assert len(head) == 64
    for rest in ("", "#main", f"#{head}", f"?checksum={head[:20]}#main"):
        assert [item.name for item in (await fetch_git(sources, address(server, rest))).iterdir()] == ["page"]
    assert (await fetch_git(sources, address(server), keep_git_dir=True)).joinpath(".git").is_dir()


async def test_an_empty_repository(sources: Sources, server: SourceServer) -> None:
    place = server.repositories / "r.git"
    place.mkdir(parents=True)
    git(place, "init", "-q", "-b", "main")
    error = await fails(sources, address(server))
    assert isinstance(error, NotFound) and "does not contain ref HEAD" in error.message


async def test_without_git(sources: Sources, server: SourceServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    error = await fails(sources, address(server))
    assert isinstance(error, Unavailable) and "git is not installed" in error.message and "apt-get" in error.hint


async def test_a_file_is_sent_once(sources: Sources, server: SourceServer) -> None:
    etag, modified = {"ETag": '"1"'}, {"Last-Modified": TIME}
    for number, headers in enumerate((etag, modified, etag | modified)):
        path = f"/{number}/a%20b.bin"
        server.files[path] = Answer(b"payload", headers=headers)
        wanted = parse_http(server.url(path))
        digests = set()
        for _ in range(3):
            found = await sources.resolve_file(wanted, NOBODY)
            digests.add(found.digest)
            async with sources.file(found, NOBODY) as (content, known):
                assert content.read_bytes() == b"payload"
                assert known.mtime == (1445412480 if "Last-Modified" in headers else 0)
            assert found.name == "a b.bin"
        assert digests == {f"sha256:{hashlib.sha256(b'payload').hexdigest()}"}
        assert server.bodies.count(path) == 1


async def test_a_changed_file_is_sent_again(sources: Sources, server: SourceServer) -> None:
    server.files["/x"] = Answer(b"one", headers={"ETag": '"1"'})
    wanted = parse_http(server.url("/x"))
    first = await sources.resolve_file(wanted, NOBODY)
    server.files["/x"] = Answer(b"two", headers={"ETag": '"2"'})
    second = await sources.resolve_file(wanted, NOBODY)
    assert first.digest != second.digest
    server.files["/x"] = Answer(b"three")  # without anything to ask by
    assert (await sources.resolve_file(wanted, NOBODY)).digest != second.digest
    server.files["/x"] = Answer(b"four")
    async with sources.file(await sources.resolve_file(wanted, NOBODY), NOBODY) as (content, _):
        assert content.read_bytes() == b"four"


async def test_a_server_that_ignores_conditions(sources: Sources, server: SourceServer) -> None:
    server.ignores_conditions = True
    server.files["/x"] = Answer(b"one", headers={"ETag": '"1"', "Last-Modified": TIME})
    wanted = parse_http(server.url("/x"))
    first = await sources.resolve_file(wanted, NOBODY)
    assert await sources.resolve_file(wanted, NOBODY) == first


async def test_a_file_with_checksum(sources: Sources, server: SourceServer) -> None:
    server.files["/x"] = Answer(b"one")
    wanted = parse_http(server.url("/x"))
    for algorithm in ("sha256", "sha384", "sha512"):
        pinned = await sources.resolve_file(wanted, NOBODY, f"{algorithm}:{hashlib.new(algorithm, b'one').hexdigest()}")
        async with sources.file(pinned, NOBODY) as (content, _):
            assert content.read_bytes() == b"one"
    server.asked.clear()
    async with sources.file(pinned, NOBODY):
        assert server.asked == []
    with pytest.raises(DataCorrupt, match="digest mismatch") as caught:
        async with sources.file(await sources.resolve_file(wanted, NOBODY, f"sha256:{'0' * 64}"), NOBODY):
            pass
    assert hashlib.sha256(b"one").hexdigest() in caught.value.message and caught.value.hint
    for text in ("sha256:abc", "md5:00", f"sha256:{'X' * 64}"):
        with pytest.raises(InvalidArgument, match="invalid checksum digest format"):
            await sources.resolve_file(wanted, NOBODY, text)


async def test_answers_that_are_no_file(sources: Sources, server: SourceServer) -> None:
    kinds = {404: NotFound, 410: NotFound, 401: Unauthorized, 403: Forbidden, 500: Unavailable, 400: Unavailable}
    for status, kind in kinds.items():
        server.files["/x"] = Answer(b"no", status)
        with pytest.raises(kind, match=f"the server answered {status} ") as caught:
            await sources.resolve_file(parse_http(f"http://u:pa55@{server.address}/x"), NOBODY)
        assert "pa55" not in str(caught.value) and server.address in caught.value.message
    server.files["/x"] = Answer(b"a whole lot of bytes", cut=True)
    with pytest.raises(Unavailable, match=re.escape(server.address)):
        await sources.resolve_file(parse_http(server.url("/x")), NOBODY)
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1"):
        await sources.resolve_file(parse_http("http://127.0.0.1:1/x"), NOBODY)
    for url in ("http://127.0.0.1:99999/x", "http://a b/x", "http://[::1/x"):
        with pytest.raises((Unavailable, InvalidArgument)):
            await sources.resolve_file(parse_http(url), NOBODY)
    small = Sources(sources.store._top.parent / "small", SourceLimits(download=10))
    server.files["/x"] = Answer(bytes(11))
    with pytest.raises(Exhausted, match="larger than 10 bytes"):
        await small.resolve_file(parse_http(server.url("/x")), NOBODY)


async def test_a_file_that_changes_between_the_requests(sources: Sources, server: SourceServer) -> None:
    server.files["/x"] = Answer(b"one", headers={"Last-Modified": TIME})
    found = await sources.resolve_file(parse_http(server.url("/x")), NOBODY)
    await sources.store.trim(0)
    server.files["/x"] = Answer(b"two", headers={"Last-Modified": TIME})
    with pytest.raises(Conflict, match="changed while"):
        async with sources.file(found, NOBODY):
            pass


async def test_tokens_for_files(sources: Sources, server: SourceServer) -> None:
    server.authorization, server.files["/x"] = "Bearer t0ken", Answer(b"one")
    wanted = parse_http(server.url("/x"))
    with pytest.raises(Unauthorized, match="401") as caught:
        await sources.resolve_file(wanted, NOBODY)
    assert "HTTP_AUTH_TOKEN_127.0.0.1" in caught.value.hint
    assert await sources.resolve_file(wanted, Credentials(secrets={"HTTP_AUTH_TOKEN_127.0.0.1": b"t0ken\n"}))
    assert await sources.resolve_file(wanted, Credentials(secrets={"HTTP_AUTH_HEADER_127.0.0.1": b"Bearer t0ken"}))
    server.authorization = f"Basic {base64.b64encode(b'user:own').decode()}"
    own = parse_http(f"http://user:own@{server.address}/x")
    assert await sources.resolve_file(own, Credentials(secrets={"HTTP_AUTH_TOKEN_127.0.0.1": b"t0ken"}))


async def test_archives_become_trees(sources: Sources, server: SourceServer) -> None:
    data = tar_of(("Dockerfile", b"FROM scratch\n"), ("d/f", b"x"))
    server.files["/a"], server.files["/b"] = Answer(gzip.compress(data)), Answer(data)
    for path in ("/a", "/b", "/a"):
        async with sources.place(parse_remote(server.url(path)), NOBODY) as place:
            assert (place / "d/f").read_bytes() == b"x"
    server.files["/text"] = Answer(b"FROM scratch\n")
    async with sources.place(parse_remote(server.url("/text")), NOBODY) as place:
        assert place.read_bytes() == b"FROM scratch\n"


async def test_bad_archives(tmp_path: Path, server: SourceServer) -> None:
    limits = SourceLimits(archive_entries=3, archive_bytes=1 << 20, archive_ratio=20, ratio_from=1 << 16)
    sources = Sources(tmp_path / "limited", limits)
    whole = tar_of(("f", os.urandom(100_000)))
    bad = {
        "bomb": (gzip.compress(tar_of(("zeros", bytes(500_000)))), "over 20 to 1", "max_archive_ratio"),
        "large": (tar_of(("f", bytes(1 << 20))), "more than 1048576 bytes", "max_archive_bytes"),
        "many": (tar_of(*((str(number), b"") for number in range(4))), "more than 3 entries", "max_archive_entries"),
        "above": (tar_of(("../f", b"")), "leads outside with '..'", "relative paths"),
        "absolute": (tar_of(("/f", b"")), "absolute path", "relative paths"),
        "link": (tar_of(("d/l", b""), type=tarfile.SYMTYPE, linkname="../../etc"), "leads outside", "relative paths"),
        "hard": (tar_of(("l", b""), type=tarfile.LNKTYPE, linkname="../etc/passwd"), "leads outside", "relative paths"),
        "cut": (whole[:50_000], "ends within", "cut short"),
        "cutzip": (gzip.compress(whole)[:50_000], "gzip", "cut short"),
        "rubbish": (gzip.compress(b"no tar at all" * 100), "damaged header", "is no tar archive"),
    }
    for name, (data, message, hint) in bad.items():
        server.files[f"/{name}"] = Answer(data)
        with pytest.raises((InvalidArgument, DataCorrupt)) as caught:
            async with sources.place(parse_remote(server.url(f"/{name}")), NOBODY):
                pass
        assert message in caught.value.message, name
        assert hint in caught.value.hint, name
        assert server.url(f"/{name}") in caught.value.message
    left = [item for item in sources.store._directory.iterdir() if item.name.startswith(".")]
    assert left == []


async def test_links_inside_a_tree_stay(sources: Sources, server: SourceServer) -> None:
    server.files["/a"] = Answer(tar_of(("d/l", b""), type=tarfile.SYMTYPE, linkname="../x"))
    server.files["/b"] = Answer(tar_of(("d/l", b""), type=tarfile.SYMTYPE, linkname="/etc/passwd"))
    for path in ("/a", "/b"):
        async with sources.place(parse_remote(server.url(path)), NOBODY) as place:
            assert (place / "d/l").is_symlink()


async def test_what_is_kept_is_bounded_and_what_is_used_stays(tmp_path: Path, server: SourceServer) -> None:
    sources = Sources(tmp_path / "sources", SourceLimits(cache=300_000))
    found = []
    for number in range(5):
        server.files[f"/{number}"] = Answer(os.urandom(100_000))
        found.append(await sources.resolve_file(parse_http(server.url(f"/{number}")), NOBODY))
    assert 0 < await sources.store.size() <= 300_000
    async with sources.file(found[0], NOBODY) as (content, _):
        assert await sources.store.trim(0) > 0
        assert content.exists()
    await sources.store.trim(0)
    assert await sources.store.size() == 0 and not content.exists()


async def test_what_an_earlier_start_left_is_deleted(tmp_path: Path) -> None:
    sources = Sources(tmp_path / "sources")
    top = sources.store._top
    for name in ("00000000/x", f"{sources.store._directory.name}/.new-1", f"{sources.store._directory.name}/.old-1"):
        (top / name).mkdir(parents=True)
    await sources.recover()
    await sources.store.remember("key", {"a": "b"})
    await Sources(tmp_path / "sources").recover()
    assert sorted(item.name for item in top.iterdir()) == sorted([sources.store._directory.name, "facts"])
    assert list(sources.store._directory.iterdir()) == []
    assert await sources.store.recall("key") == {"a": "b"}


async def test_entries_that_are_made_at_the_same_time(tmp_path: Path) -> None:
    """Each trims what the others make; none waits for another one's lock while it holds its own."""
    store = Sources(tmp_path / "sources", SourceLimits(cache=1)).store

    async def use(number: int) -> None:
        async def make(place: Path) -> dict[str, str]:
            (place / "content").write_bytes(bytes(10_000))
            await asyncio.sleep(0)
            return {}

        for _ in range(5):
            async with store.get(f"key {number % 4}", make) as stored:
                assert stored.content.stat().st_size == 10_000
                await asyncio.sleep(0)

    async with asyncio.timeout(30):
        await asyncio.gather(*(use(number) for number in range(12)))
    await store.trim(0)
    assert await store.size() == 0 and store._held == {} and len(store._locks) == 0
