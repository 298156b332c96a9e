"""The host's apt sources (sources.list(5)): one-line and deb822 style."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from tare.distroless.control import parse_paragraphs
from tare.distroless.settings import ArchiveSettings, ArchiveSource, DebianRelease
from tare.errors import Unavailable

_ONE_LINE = re.compile(r"deb\s+(?:\[(?P<options>[^\]]*)\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)\s+(?P<components>[^#]+)")
_CHECK_VALID_UNTIL = re.compile(r'Acquire(?:::|\s*\{[^{}]*?)Check-Valid-Until\s+"?(\w+)"?\s*;', re.IGNORECASE)
_COMMENTS = re.compile(r"(?m)^\s*(?://|#(?!clear|include))[^\n]*|(?s:/\*.*?\*/)")
_SIZE_LIMIT = 1 << 20  # bytes of one sources file


def archive_sources(settings: ArchiveSettings, release: DebianRelease) -> tuple[ArchiveSource, ...]:
    """The sources to ask for ``release``: the settings' mirrors, else the host's apt sources. Blocking.

    Entries that name another key than the Debian archive's are left out here; who really signed, and as which origin,
    is checked when the release file is verified. Raises Unavailable with the fix when there is none.
    """
    if settings.mirrors:
        suites = settings.suites or release.suites
        components = settings.components or ("main",)
        return tuple(
            ArchiveSource(_clean_uri(uri), suite, components)
            for uri in settings.mirrors
            for suite in suites
            if suite.endswith("-security") == urlsplit(uri).path.rstrip("/").endswith("-security")
        )
    wanted = set(settings.suites or release.suites)
    found: dict[tuple[str, str], set[str]] = {}
    certain: set[tuple[str, str]] = set()
    for source in read_apt_sources(settings.apt_directory, settings.keyring):
        if source.suite in wanted:
            found.setdefault((source.uri, source.suite), set()).update(source.components)
            if source.is_certain:
                certain.add((source.uri, source.suite))
    if not any(suite == release.codename for _, suite in found):
        raise Unavailable(
            f"no apt source for Debian {release.version} ({release.codename}) in {settings.apt_directory}",
            hint=f"add one, signed by {settings.keyring}, or set archive.mirrors in the configuration",
            code="no-archive",
        )
    return tuple(
        sorted(
            ArchiveSource(uri, suite, settings.components or tuple(sorted(components)), (uri, suite) in certain)
            for (uri, suite), components in found.items()
        )
    )


def dates_matter(settings: ArchiveSettings) -> bool:
    """Whether an expired release file is refused: as the settings say, else as the host's apt does. Blocking."""
    if settings.check_dates is not None:
        return settings.check_dates
    directory = settings.apt_directory
    verdict = True
    for path in (*sorted((directory / "apt.conf.d").glob("*")), directory / "apt.conf"):
        if path.is_file() and (path.suffix in ("", ".conf")):
            with path.open("rb") as stream:
                text = stream.read(_SIZE_LIMIT).decode(errors="replace")
            for match in _CHECK_VALID_UNTIL.finditer(_COMMENTS.sub("", text)):
                verdict = match[1].lower() not in ("false", "no", "0")
    return verdict


def read_apt_sources(directory: Path, keyring: Path) -> list[ArchiveSource]:
    """All enabled binary sources below ``directory`` that are, or may be, signed by ``keyring``. Blocking."""
    files = [directory / "sources.list", *sorted((directory / "sources.list.d").glob("*"))]
    sources: list[ArchiveSource] = []
    for path in files:
        if path.suffix not in (".list", ".sources") or not path.is_file():
            continue
        with path.open("rb") as stream:
            text = stream.read(_SIZE_LIMIT).decode(errors="replace")
        sources.extend(_deb822(text, keyring) if path.suffix == ".sources" else _one_line(text, keyring))
    return sources


def _one_line(text: str, keyring: Path) -> Iterator[ArchiveSource]:
    for line in text.splitlines():
        match = _ONE_LINE.match(line.strip())
        if match is None:
            continue
        options = dict(item.partition("=")[::2] for item in (match["options"] or "").split())
        signed_by = options.get("signed-by", "")
        if _may_be_debian(signed_by, keyring) and _is_http(match["uri"]):
            components = tuple(match["components"].split())
            yield ArchiveSource(_clean_uri(match["uri"]), match["suite"], components, bool(signed_by))


def _deb822(text: str, keyring: Path) -> Iterator[ArchiveSource]:
    uncommented = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    for paragraph in parse_paragraphs(uncommented):
        fields = {name.lower(): value for name, value in paragraph.items()}
        if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes").lower() in ("no", "false"):
            continue
        signed_by = fields.get("signed-by", "").strip()
        if not _may_be_debian(signed_by, keyring):
            continue
        components = tuple(fields.get("components", "").split())
        for uri in fields.get("uris", "").split():
            for suite in fields.get("suites", "").split():
                if _is_http(uri):
                    yield ArchiveSource(_clean_uri(uri), suite, components, bool(signed_by))


def _may_be_debian(signed_by: str, keyring: Path) -> bool:
    """Whether an entry can be the archive's: no key named, the keyring, or one of the archive's single keys."""
    if not signed_by:
        return True
    if "BEGIN PGP" in signed_by:
        return False
    names = [Path(part) for part in re.split(r"[\s,]+", signed_by.strip())]
    return any(path == keyring or path.name.startswith("debian-archive-") for path in names)


def _is_http(uri: str) -> bool:
    return urlsplit(uri).scheme in ("http", "https")


def _clean_uri(uri: str) -> str:
    """The address without credentials (they must not reach an image or a message) and without trailing slash."""
    parts = urlsplit(uri)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path.rstrip("/"), "", ""))
