"""Git repositories: one commit of one, fetched by the ``git`` program and checked out as a tree.

What git reads is what it is given here: no configuration of host or user, no prompts, no protocols other than http(s),
ssh and git, no hooks. Credentials go through its environment, never through arguments, files or messages.
"""

from __future__ import annotations

import asyncio
import base64
import os
import shutil
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from tare.base.process import Completed, kill, run
from tare.base.shielding import to_end
from tare.build.ops.rootfs import resolve
from tare.build.sources.addresses import GitAddress, is_commit, redact
from tare.build.sources.limits import SourceLimits
from tare.build.sources.store import Facts, SourceStore
from tare.errors import Exhausted, InvalidArgument, NotFound, TareError, Unauthorized, Unavailable
from tare.store.usage import disk_usage

_PROTOCOLS = "http:https:ssh:git"
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
_PASSED = (
    *("PATH", "SSL_CERT_FILE", "SSL_CERT_DIR", "GIT_SSL_CAINFO", "CURL_CA_BUNDLE"),
    *_PROXIES,
    *(name.lower() for name in _PROXIES),
)
_CHUNK = 1 << 16
_TOO_LARGE = signal.SIGXFSZ
_NOT_OFFERED = ("not our ref", "unadvertised object", "allow request for")
_NOT_SHALLOW = ("shallow", "--depth")
_DENIED = ("Authentication failed", "could not read Username", "Permission denied", "error: 403", "error: 401")


@dataclass(frozen=True, slots=True, kw_only=True)
class GitCommit:
    """What an address means now: the ``commit``, and the full ``ref`` (empty for a bare commit).

    ``tag`` is the tag object's own name where an annotated tag leads to the commit.
    """

    address: GitAddress
    commit: str
    ref: str = ""
    tag: str = ""
    keep_git_dir: bool = False

    @property
    def key(self) -> str:
        """What the tree depends on, without credentials."""
        keep = self.keep_git_dir and not self.address.subdir.strip("/.")
        parts = [f"git:{self.commit}", self.address.subdir.strip("/"), "" if self.address.submodules else "plain"]
        if keep:
            parts += [redact(self.address.remote), self.ref]
        elif self.address.submodules:
            parts.append(redact(self.address.remote))  # submodules may be relative to it
        return "\n".join(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class GitAccess:
    """How a remote is reached: ``agent`` is an ssh agent's socket, ``known_hosts`` a file that collects host keys."""

    secrets: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    agent: str = ""
    known_hosts: str = ""


class GitRepositories:
    """Fetches commits into ``store``."""

    def __init__(self, store: SourceStore, limits: SourceLimits) -> None:
        self._store = store
        self._limits = limits

    async def resolve(self, address: GitAddress, access: GitAccess, *, keep_git_dir: bool = False) -> GitCommit:
        """The commit that the address means now; one that names a whole commit asks nobody.

        Raises NotFound for an unknown ref, InvalidArgument for another commit than ``checksum``, Unauthorized,
        Unavailable with what git says.
        """
        if is_commit(address.ref):
            found = GitCommit(address=address, commit=address.ref)
        else:
            found = await self._ask(address, access)
        wanted = address.checksum
        if wanted and not (found.commit.startswith(wanted) or found.tag.startswith(wanted)):
            raise InvalidArgument(
                f"{address.shown}: expected checksum to match {wanted}, got {found.commit}",
                hint="the ref has moved, or the checksum is of another commit",
                code="checksum-mismatch",
            )
        return replace(found, keep_git_dir=keep_git_dir)

    @asynccontextmanager
    async def open(self, commit: GitCommit, access: GitAccess) -> AsyncIterator[Path]:
        """The commit's tree for the length of the block; nobody may change it. All times are the commit's.

        Raises NotFound for a subdirectory that is not there, and as :meth:`resolve`.
        """

        async def make(place: Path) -> Facts:
            try:
                async with asyncio.timeout(self._limits.seconds):
                    await _Checkout(commit, _Git(commit.address, access, self._limits), place).make()
            except TimeoutError as error:
                raise Unavailable(
                    f"{commit.address.shown}: not fetched within {self._limits.seconds} seconds",
                    hint="raise fetch_seconds in the section build of the configuration",
                    code="git-timeout",
                ) from error
            return {"commit": commit.commit}

        async with self._store.get(commit.key, make) as stored:
            yield stored.content

    async def _ask(self, address: GitAddress, access: GitAccess) -> GitCommit:
        async with self._store.scratch() as scratch:
            git = _Git(address, access, self._limits)
            patterns = [address.ref, f"{address.ref}^{{}}"] if address.ref else ["HEAD"]
            done = await git.run("ls-remote", "--symref", "--", git.remote, *patterns, cwd=scratch)
        found = {}
        symbolic = ""
        for line in done.stdout.decode(errors="replace").splitlines():
            name, _, ref = line.partition("\t")
            if name.startswith("ref: "):
                symbolic = symbolic or name.removeprefix("ref: ")
            else:
                found[ref] = name
        if not address.ref and (commit := found.get("HEAD", "")):
            return GitCommit(address=address, commit=commit, ref=symbolic)
        for ref in _candidates(address.ref):
            if (name := found.get(ref, "")) and is_commit(name):
                peeled = found.get(f"{ref}^{{}}", "")
                return GitCommit(address=address, commit=peeled or name, ref=ref, tag=name if peeled else "")
        wanted = address.ref or "HEAD"
        raise NotFound(
            f"{redact(address.remote)}: repository does not contain ref {wanted}",
            hint="name a branch, a tag or a whole commit after the #",
            code="git-ref-missing",
        )


def _candidates(ref: str) -> list[str]:
    """The full references that a short one may stand for, in BuildKit's order: as given, branch, tag."""
    return [
        f"refs/{ref.removeprefix('refs/')}",
        f"refs/heads/{ref.removeprefix('refs/heads/')}",
        f"refs/tags/{ref.removeprefix('refs/tags/')}",
    ]


class _Git:
    """Runs git for one remote."""

    def __init__(self, address: GitAddress, access: GitAccess, limits: SourceLimits) -> None:
        self.address = address
        self.remote, user = _without_credentials(address.remote)
        self._limits = limits
        self._env = _environment(self.remote, user, access)

    def command(self, *arguments: str) -> list[str]:
        """The argument vector; a file that git writes cannot grow without end."""
        options = ["core.hooksPath=/dev/null", "core.autocrlf=false", "core.fsmonitor=false", "gc.auto=0"]
        flags = [part for option in (*options, "advice.detachedHead=false") for part in ("-c", option)]
        return ["prlimit", f"--fsize={self._limits.download}", "--", "git", *flags, *arguments]

    @property
    def env(self) -> dict[str, str]:
        """The whole environment."""
        return self._env

    async def run(self, *arguments: str, cwd: Path, fails: Sequence[str] = ()) -> Completed:
        """Run git to its end; a failure whose words hold one of ``fails`` is the caller's to see."""
        if shutil.which("git", path=self._env.get("PATH")) is None:
            raise Unavailable(
                f"{self.address.shown}: the program git is not installed",
                hint="apt-get install git openssh-client",
                code="program-missing",
            )
        done = await run(
            self.command(*arguments),
            cwd=str(cwd),
            env=self._env,
            timeout=self._limits.seconds,
            group=True,
            umask=0o022,
        )
        if done.returncode and not any(word in done.error_text for word in fails):
            raise self.failure(done)
        return done

    def failure(self, done: Completed) -> TareError:
        """What git's end means."""
        shown, said = self.address.shown, redact(done.error_text[-2000:])
        if done.returncode == -_TOO_LARGE or f"died of signal {_TOO_LARGE:d}" in said:
            return self.too_large(f"{self._limits.download} bytes", "max_download_bytes")
        if any(word in said for word in _DENIED):
            hint = "give --secret id=GIT_AUTH_TOKEN,src=FILE, or --ssh default for an ssh address"
            return Unauthorized(f"{shown}: access denied: {said}", hint=hint, code="git-denied")
        if "not found" in said.lower():
            return NotFound(f"{shown}: {said}", hint="check the address", code="git-missing")
        return Unavailable(f"{shown}: {said}", hint="check the address and the network", code="git-failed")

    def too_large(self, amount: str, setting: str) -> TareError:
        """The error for a repository that exceeds a limit."""
        return Exhausted(
            f"{self.address.shown}: the repository has more than {amount}",
            hint=f"raise {setting} in the section build of the configuration",
            code="git-too-large",
        )


class _Checkout:
    """Makes the tree of one commit in ``place / "content"``."""

    def __init__(self, commit: GitCommit, git: _Git, place: Path) -> None:
        self._commit = commit
        self._git = git
        self._place = place
        self._work = place / "work"

    async def make(self) -> None:
        """Fetch, look at the size, check out, take the subdirectory, set the times."""
        commit, address, work = self._commit.commit, self._commit.address, self._work
        await asyncio.to_thread(work.mkdir)
        kind = "sha256" if len(commit) == 64 else "sha1"
        await self._run("-c", "init.defaultBranch=master", "init", "--quiet", f"--object-format={kind}")
        await self._run("remote", "add", "origin", self._git.remote)
        await self._fetch()
        await self._measure(commit)
        if self._commit.keep_git_dir and self._commit.ref.startswith(("refs/heads/", "refs/tags/")):
            await self._run("update-ref", self._commit.ref, self._commit.tag or commit)
        await self._run("checkout", "--quiet", "--detach", commit)
        if address.submodules and await asyncio.to_thread((work / ".gitmodules").exists):
            await self._run("submodule", "update", "--init", "--recursive", "--depth=1")
            await to_end(asyncio.to_thread(self._check_size))
        done = await self._run("show", "--no-patch", "--format=%ct", commit)
        await to_end(asyncio.to_thread(self._finish, int(done.stdout.split()[-1])))

    async def _run(self, *arguments: str, fails: Sequence[str] = ()) -> Completed:
        return await self._git.run(*arguments, cwd=self._work, fails=fails)

    async def _fetch(self) -> None:
        """Only the commit if the server lets it be asked for, else what the server offers, whole."""
        wanted = (self._commit.tag if self._commit.keep_git_dir else "") or self._commit.commit
        refusals = (*_NOT_OFFERED, *_NOT_SHALLOW)
        done = await self._run("fetch", "--quiet", "--no-tags", "--depth=1", "origin", wanted, fails=refusals)
        if done.returncode and any(word in done.error_text for word in _NOT_SHALLOW):
            done = await self._run("fetch", "--quiet", "--no-tags", "origin", wanted, fails=_NOT_OFFERED)
        if done.returncode:
            await self._run("fetch", "--quiet", "--tags", "origin", "+refs/heads/*:refs/remotes/origin/*")
        done = await self._run("cat-file", "-e", f"{wanted}^{{commit}}", fails=("",))
        if done.returncode:
            raise NotFound(
                f"{redact(self._git.remote)}: repository does not contain the commit {wanted}",
                hint="name a commit that a branch or tag of the repository leads to",
                code="git-ref-missing",
            )

    async def _measure(self, commit: str) -> None:
        """Refuse a tree with too many files or bytes before it is written: little data can stand for a lot."""
        limits, entries, size, rest = self._git._limits, 0, 0, b""
        process = await asyncio.create_subprocess_exec(
            *self._git.command("ls-tree", "-r", "-l", "-z", commit),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=self._git.env,
            cwd=self._work,
            start_new_session=True,
        )
        assert process.stdout is not None
        try:
            while data := await process.stdout.read(_CHUNK):
                *lines, rest = (rest + data).split(b"\0")
                entries += len(lines)
                size += sum(int(number) for line in lines if (number := line.split(None, 4)[3]).isdigit())
                if entries > limits.archive_entries:
                    raise self._git.too_large(f"{limits.archive_entries} files", "max_archive_entries")
                if size > limits.archive_bytes:
                    raise self._git.too_large(f"{limits.archive_bytes} bytes of files", "max_archive_bytes")
        finally:
            if process.returncode is None:
                kill(process, group=True)
            await process.wait()

    def _check_size(self) -> None:
        limits = self._git._limits
        if disk_usage(self._work) > limits.archive_bytes:
            raise self._git.too_large(f"{limits.archive_bytes} bytes with its submodules", "max_archive_bytes")

    def _finish(self, seconds: int) -> None:
        """Leave the wanted part as ``content``, with one time everywhere so that equal commits give equal layers."""
        subdir = resolve(self._work, self._commit.address.subdir)
        content = self._work / subdir
        if not content.is_dir() or subdir.split("/")[0] == ".git":
            cause = "is not a directory" if content.exists() and subdir.split("/")[0] != ".git" else "does not exist"
            raise NotFound(
                f"{self._commit.address.shown}: the subdirectory {self._commit.address.subdir!r} {cause} "
                f"in commit {self._commit.commit[:12]}",
                hint="the subdirectory comes after the colon: #REF:SUBDIR",
                code="git-subdir-missing",
            )
        if subdir or not self._commit.keep_git_dir:
            shutil.rmtree(self._work / ".git")
            _drop_pointers(content)
        _set_times(content, seconds)
        content.rename(self._place / "content")
        if subdir:
            shutil.rmtree(self._work)


def _drop_pointers(top: Path) -> None:
    """Delete the files ``.git`` of submodules, which point to what is gone."""
    for above, directories, files in os.walk(top):
        for name in (*directories, *files):
            place = Path(above, name)
            if name == ".git":
                shutil.rmtree(place) if place.is_dir() and not place.is_symlink() else place.unlink()


def _set_times(top: Path, seconds: int) -> None:
    for above, directories, files in os.walk(top, topdown=False):
        for name in (*directories, *files):
            os.utime(os.path.join(above, name), (seconds, seconds), follow_symlinks=False)  # noqa: PTH118
    os.utime(top, (seconds, seconds))


def _without_credentials(remote: str) -> tuple[str, str]:
    """An http(s) URL without its user part, and that part; other remotes stay as they are."""
    if not remote.startswith(("http://", "https://")):
        return remote, ""
    parts = urlsplit(remote)
    user, _, host = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=host)), user


def _environment(remote: str, user: str, access: GitAccess) -> dict[str, str]:
    env = {name: value for name in _PASSED if (value := os.environ.get(name))}
    known = access.known_hosts or "/dev/null"
    env |= {
        "HOME": "/nonexistent",
        "LC_ALL": "C",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ALLOW_PROTOCOL": _PROTOCOLS,
        "GIT_SSH_COMMAND": "ssh -F /dev/null -o BatchMode=yes -o StrictHostKeyChecking=accept-new "
        f"-o UserKnownHostsFile={known}",
    }
    if access.agent:
        env["SSH_AUTH_SOCK"] = access.agent
    header = _authorization(remote, user, access.secrets)
    if header:
        parts = urlsplit(remote)
        env |= {
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": f"http.{parts.scheme}://{parts.netloc}/.extraHeader",
            "GIT_CONFIG_VALUE_0": f"Authorization: {header}",
        }
    return env


def _authorization(remote: str, user: str, secrets: Mapping[str, bytes]) -> str:
    """The header that http(s) servers get: the URL's own, else BuildKit's secrets, those for the host first."""
    if not remote.startswith(("http://", "https://")):
        return ""
    host = urlsplit(remote).netloc
    if user:
        name, _, password = user.partition(":")
        return _basic(f"{unquote(name)}:{unquote(password)}")
    for ending in (f".{host}", ""):
        if (header := secrets.get(f"GIT_AUTH_HEADER{ending}")) is not None:
            return header.decode("latin-1").strip()
        if (token := secrets.get(f"GIT_AUTH_TOKEN{ending}")) is not None:
            return _basic(f"x-access-token:{token.decode('latin-1').strip()}")
    return ""


def _basic(pair: str) -> str:
    return f"basic {base64.b64encode(pair.encode()).decode()}"
