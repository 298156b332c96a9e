"""What the address of a remote source means (Docker's "build contexts"; BuildKit, dfgitutil and gitutil).

Git: ``https://host/repo.git``, ``ssh://…``, ``git://…`` and ``user@host:path`` with ``#ref:subdir`` or a query
(``?ref=``, ``tag``, ``branch``, ``subdir``, ``checksum``, ``keep-git-dir``, ``submodules``). Any other http(s) URL is a
file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import SplitResult, parse_qsl, urlsplit, urlunsplit

from tare.errors import InvalidArgument, Unsupported

_SCHEME = re.compile(r"([a-zA-Z0-9+.-]+)://")
_SCP = re.compile(
    r"(?P<user>[a-zA-Z0-9_-]+)@(?P<host>[a-zA-Z0-9.-]+):(?P<path>[^#?]+)(?P<query>\?[^#]*)?(?:#(?P<rest>.*))?"
)
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_HEX = re.compile(r"[0-9a-fA-F]+")
_BAD_REF = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|^[-/]|[/.]$|\.lock$")  # git-check-ref-format(1)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_GIT_SCHEMES = ("http", "https", "ssh", "git")
_TRUE, _FALSE = ("1", "t", "T", "true", "TRUE", "True"), ("0", "f", "F", "false", "FALSE", "False")
_MASK = "xxxxx"


@dataclass(frozen=True, slots=True, kw_only=True)
class GitAddress:
    """A git repository and what of it is meant.

    ``remote`` is what git is given (it may hold credentials), ``ref`` a branch, tag, full reference or commit (empty:
    the default branch), ``checksum`` the beginning of the commit that must be found. ``keep_git_dir`` is None where the
    address does not say.
    """

    remote: str = field(repr=False)
    ref: str = ""
    subdir: str = ""
    checksum: str = ""
    keep_git_dir: bool | None = None
    submodules: bool = True

    @property
    def shown(self) -> str:
        """The address for people, without credentials."""
        ending = f":{self.subdir}" if self.subdir else ""
        return redact(self.remote) + (f"#{self.ref}{ending}" if self.ref or ending else "")

    @property
    def host(self) -> str:
        """The host that is asked, with the port where one is given."""
        scp = _SCP.fullmatch(self.remote)
        return scp["host"] if scp else urlsplit(self.remote).netloc.rpartition("@")[2]


@dataclass(frozen=True, slots=True)
class HttpAddress:
    """A file on an http(s) server; the URL may hold credentials."""

    url: str = field(repr=False)

    @property
    def shown(self) -> str:
        """The URL for people."""
        return redact(self.url)


RemoteAddress = GitAddress | HttpAddress


def parse_remote(text: str) -> RemoteAddress:
    """A main build context that is not on this host.

    Raises InvalidArgument for what is no address, Unsupported for protocols that are not fetched.
    """
    if text.startswith("github.com/"):
        text = f"https://{text}"
        return _from_url(text)
    git = parse_git(text)
    if git is not None:
        return git
    scheme = _SCHEME.match(text)
    if scheme is None:
        raise InvalidArgument(f"build context {text!r} is no address", hint="use https://…, git@… or a directory")
    if scheme[1].lower() not in ("http", "https"):
        raise Unsupported(
            f"build context {redact(text)}: the protocol {scheme[1]!r} is not fetched",
            hint="use https, http, ssh or git, or name a local directory",
            code="source-protocol",
        )
    return parse_http(text)


def parse_git(text: str) -> GitAddress | None:
    """The git repository that ``text`` names; None where it names something else. Raises InvalidArgument."""
    scheme = _SCHEME.match(text)
    if scheme is not None:
        if scheme[1].lower() not in _GIT_SCHEMES:
            return None
        path = _split(text).path
        return None if scheme[1].lower() in ("http", "https") and not path.endswith(".git") else _from_url(text)
    match = _SCP.fullmatch(text)
    if match is None or text.startswith(("./", "../")):
        return None
    remote = f"{match['user']}@{match['host']}:{match['path']}"
    return _checked(_with_parts(GitAddress(remote=remote), match["rest"] or "", (match["query"] or "?")[1:], text))


def parse_http(text: str) -> HttpAddress:
    """An http(s) URL. Raises InvalidArgument where it names no host."""
    _refuse_controls(text)
    parts = _split(text)
    if not parts.hostname:
        raise InvalidArgument(f"{redact(text)}: the URL has no host", hint="write https://HOST/PATH")
    return HttpAddress(urlunsplit(parts._replace(fragment="")))


def is_http(text: str) -> bool:
    """Whether ``text`` is an http(s) URL, git or not."""
    return text.lower().startswith(("http://", "https://"))


def is_commit(ref: str) -> bool:
    """Whether ``ref`` is a whole commit name, SHA-1 or SHA-256."""
    return _COMMIT.fullmatch(ref) is not None


def redact(text: str) -> str:
    """``text`` with the credentials of a URL masked, in whatever place of it the URL stands."""
    return re.sub(r"(?<=://)([^/@\s'\"]+)@", _mask, text)


def _mask(match: re.Match[str]) -> str:
    user, colon, _ = match[1].partition(":")
    if not colon:
        return match[0] if user == "git" else f"{_MASK}@"
    return f"{_MASK}:{_MASK}@"


def _split(text: str) -> SplitResult:
    try:
        parts = urlsplit(text)
        _ = parts.hostname, parts.port
    except ValueError as error:
        raise InvalidArgument(f"{redact(text)}: {error}", hint="write https://HOST[:PORT]/PATH") from error
    return parts


def _refuse_controls(text: str) -> None:
    if _CONTROL.search(text):
        raise InvalidArgument(f"{redact(text)!r}: an address may not have control characters", hint="check the address")


def _from_url(text: str) -> GitAddress:
    parts = _split(text)
    if not parts.hostname or not parts.path.strip("/"):
        raise InvalidArgument(
            f"{redact(text)}: a git address names a host and a path", hint="write https://HOST/PATH.git#REF:SUBDIR"
        )
    remote = urlunsplit(parts._replace(query="", fragment="", scheme=parts.scheme.lower()))
    return _checked(_with_parts(GitAddress(remote=remote), parts.fragment, parts.query, text))


def _with_parts(address: GitAddress, fragment: str, query: str, text: str) -> GitAddress:
    ref, _, subdir = fragment.partition(":")
    found: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name in found:
            raise InvalidArgument(f"{redact(text)}: the query has several values of {name!r}")
        if name not in ("ref", "tag", "branch", "subdir", "checksum", "commit", "keep-git-dir", "submodules"):
            raise InvalidArgument(
                f"{redact(text)}: unexpected query {name!r}",
                hint="known are ref, tag, branch, subdir, checksum, keep-git-dir and submodules",
            )
        if not value and name not in ("keep-git-dir", "submodules"):
            raise InvalidArgument(f"{redact(text)}: query {name!r} has no value")
        found[name] = value
    if "tag" in found and "branch" in found:
        raise InvalidArgument(f"{redact(text)}: branch conflicts with tag", hint="give one of them")
    wanted = [ref, found.get("ref", "")]
    wanted += [f"refs/tags/{found['tag'].removeprefix('refs/tags/')}"] if "tag" in found else []
    wanted += [f"refs/heads/{found['branch'].removeprefix('refs/heads/')}"] if "branch" in found else []
    checksum = found.get("checksum", found.get("commit", ""))
    return replace(
        address,
        ref=_agreed("ref", wanted, text) or checksum,
        subdir=_agreed("subdir", [subdir, found.get("subdir", "")], text),
        checksum=checksum,
        keep_git_dir=_boolean(found, "keep-git-dir", text),
        submodules=_boolean(found, "submodules", text) is not False,
    )


def _agreed(name: str, values: list[str], text: str) -> str:
    given = list(dict.fromkeys(value for value in values if value))
    if len(given) > 1:
        raise InvalidArgument(f"{redact(text)}: {name} conflicts: {given[0]!r} vs {given[1]!r}", hint="give it once")
    return given[0] if given else ""


def _boolean(found: Mapping[str, str], name: str, text: str) -> bool | None:
    if name not in found:
        return None
    value = found[name]
    if value and value not in (*_TRUE, *_FALSE):
        raise InvalidArgument(f"{redact(text)}: invalid {name} value: {value!r}", hint="use true or false")
    return not value or value in _TRUE


def _checked(address: GitAddress) -> GitAddress:
    """``address`` if nothing of it could be taken for an option or a pattern by git."""
    _refuse_controls(address.remote + address.subdir)
    if address.host.startswith("-") or address.remote.startswith("-"):
        raise InvalidArgument(f"{address.shown}: the host may not begin with a dash")
    if address.ref and _BAD_REF.search(address.ref):
        raise InvalidArgument(
            f"{redact(address.remote)}: invalid ref {address.ref!r}",
            hint="name a branch, a tag or a commit: #REF:SUBDIR",
            code="git-ref",
        )
    if address.checksum and _HEX.fullmatch(address.checksum) is None:
        raise InvalidArgument(
            f"invalid checksum {address.checksum} for Git source, expected hex commit hash", code="checksum"
        )
    return replace(address, checksum=address.checksum.lower())


def with_checksum(address: GitAddress, checksum: str) -> GitAddress:
    """``address`` with the commit that ``ADD --checksum`` asks for. Raises InvalidArgument where they differ."""
    if checksum and address.checksum and checksum != address.checksum:
        raise InvalidArgument(f'checksum mismatch "{checksum}" != "{address.checksum}"', hint="give one of them")
    return _checked(replace(address, checksum=checksum or address.checksum))
