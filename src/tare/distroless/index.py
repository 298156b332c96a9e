"""The archive: verified release files and package indexes, cached on disk and revalidated on use."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import lzma
import zlib
from dataclasses import dataclass
from pathlib import Path

import msgspec

from tare.base.atomic import write_atomic
from tare.base.together import together
from tare.distroless.fetch import Downloader
from tare.distroless.packages import PackageIndex, encode_compact, load_compact, parse_packages, store_compact
from tare.distroless.release import RELEASE_LIMIT, IndexFile, Release, check_validity, parse_release, verify_signature
from tare.distroless.settings import ArchiveSettings, ArchiveSource, DebianRelease
from tare.distroless.sources import archive_sources, dates_matter
from tare.errors import DataCorrupt, NotFound, TareError, Unavailable
from tare.model import new_id

logger = logging.getLogger(__name__)

INDEX_LIMIT = 512 << 20  # bytes of one uncompressed Packages file; main's is 50 MB
_COMPRESSIONS = (".xz", ".gz", "")


class _Validators(msgspec.Struct):
    etag: str = ""
    last_modified: str = ""


@dataclass(frozen=True, slots=True)
class VerifiedSuite:
    """A suite whose release file was verified; ``digest`` is the sha256 of the signed file."""

    source: ArchiveSource
    release: Release
    digest: str


class Archive:
    """The archive of one Debian release as this host's sources name it. ``cache_dir`` is made when needed."""

    def __init__(self, settings: ArchiveSettings, cache_dir: Path, release: DebianRelease) -> None:
        self._settings = settings
        self._cache = cache_dir / "archive"
        self._release = release

    async def suites(self, downloader: Downloader) -> tuple[VerifiedSuite, ...]:
        """Verified release files, asked for again each time, in a stable order.

        Entries of other origins than Debian are left out. An entry that names no key may be another vendor's: what is
        wrong with it is an error only when no other entry gives its suite. When the archive cannot be reached, the
        files of the last time serve while they are valid. Raises Unavailable, DataCorrupt.
        """
        sources = await asyncio.to_thread(archive_sources, self._settings, self._release)
        errors: dict[ArchiveSource, TareError] = {}

        async def verified(source: ArchiveSource) -> VerifiedSuite | None:
            try:
                return await self._suite(downloader, source)
            except TareError as error:
                if source.is_certain:
                    raise
                errors[source] = error
                return None

        results = await together(*(verified(source) for source in sources))
        suites = tuple(suite for suite in results if suite is not None)
        covered = {suite.source.suite for suite in suites}
        for source, error in errors.items():
            if source.suite not in covered:
                raise error
            logger.warning("ignoring %s: %s", source, error)
        if not any(suite.release.codename == self._release.codename for suite in suites):
            raise Unavailable(
                f"none of {', '.join(map(str, sources))} is Debian {self._release.version}",
                hint="check the apt sources",
            )
        return suites

    async def _suite(self, downloader: Downloader, source: ArchiveSource) -> VerifiedSuite | None:
        data = await self._release_file(downloader, source)
        what = f"{source.release_url}/InRelease"
        text = await verify_signature(data, self._settings.keyring, what=what)
        release = parse_release(text, what=what)
        if release.origin != "Debian" or source.suite not in (release.codename, release.suite):
            logger.info("%s is %s %s, not used", what, release.origin, release.codename)
            return None
        if await asyncio.to_thread(dates_matter, self._settings):
            check_validity(text, what=what)
        await asyncio.to_thread(self._keep, source, data)
        return VerifiedSuite(source, release, hashlib.sha256(data).hexdigest())

    async def _release_file(self, downloader: Downloader, source: ArchiveSource) -> bytes:
        url = f"{source.release_url}/InRelease"
        known, validators = await asyncio.to_thread(self._known, source)
        try:
            page = await downloader.page(
                url,
                limit=RELEASE_LIMIT,
                etag=validators.etag if known else "",
                last_modified=validators.last_modified if known else "",
            )
        except Unavailable as error:
            if known is None:
                raise
            logger.warning("using the release file of the last time: %s", error)
            return known
        if page.data is None:
            assert known is not None
            return known
        if page.data != known:
            fresh = msgspec.json.encode(_Validators(page.etag, page.last_modified))
            await asyncio.to_thread(self._keep_validators, source, fresh)
        return page.data

    async def index(self, downloader: Downloader, suites: tuple[VerifiedSuite, ...], architecture: str) -> PackageIndex:
        """The packages of ``suites`` for a Debian architecture.

        Raises NotFound (code ``archive-404``) or DataCorrupt when the mirror has changed since the release files were
        read, Unavailable.
        """
        wanted = [
            (suite, component, _index_file(suite, component, architecture))
            for suite in suites
            for component in suite.source.components
        ]
        compacts = await together(
            *(self._compact(downloader, suite, file) for suite, _, file in wanted if file is not None)
        )
        if not compacts:
            raise NotFound(f"the archive has no packages for the architecture {architecture}")
        return await asyncio.to_thread(PackageIndex, compacts)

    async def _compact(self, downloader: Downloader, suite: VerifiedSuite, file: IndexFile) -> bytes:
        base = hashlib.sha256(suite.source.uri.encode()).hexdigest()[:16]
        path = self._cache / f"{file.sha256}-{base}.packages"
        known = await asyncio.to_thread(load_compact, path)
        if known is not None:
            return known
        url = f"{suite.source.release_url}/{file.path}"
        if suite.release.by_hash:
            url = f"{url.rpartition('/')[0]}/by-hash/SHA256/{file.sha256}"
        # Images are assembled side by side: two of them may want one index at the same time.
        download = path.with_suffix(f".{new_id()[:12]}.download")
        await asyncio.to_thread(self._cache.mkdir, parents=True, exist_ok=True)
        try:
            await downloader.file(url, download, sha256=file.sha256, size=file.size)
            return await asyncio.to_thread(_compile, download, path, file, suite.source.uri, url)
        finally:
            await asyncio.to_thread(download.unlink, missing_ok=True)

    def _paths(self, source: ArchiveSource) -> tuple[Path, Path]:
        name = hashlib.sha256(source.release_url.encode()).hexdigest()[:32]
        return self._cache / f"{name}.release", self._cache / f"{name}.json"

    def _known(self, source: ArchiveSource) -> tuple[bytes | None, _Validators]:
        release, validators = self._paths(source)
        try:
            return release.read_bytes(), msgspec.json.decode(validators.read_bytes(), type=_Validators)
        except (FileNotFoundError, msgspec.MsgspecError):
            return None, _Validators()

    def _keep(self, source: ArchiveSource, data: bytes) -> None:
        path = self._paths(source)[0]
        if not path.is_file() or path.read_bytes() != data:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(path, data, durable=False)

    def _keep_validators(self, source: ArchiveSource, encoded: bytes) -> None:
        release, validators = self._paths(source)
        validators.parent.mkdir(parents=True, exist_ok=True)
        release.unlink(missing_ok=True)  # written again once verified; validators never outlive what they describe
        write_atomic(validators, encoded, durable=False)


def _index_file(suite: VerifiedSuite, component: str, architecture: str) -> IndexFile | None:
    files = suite.release.files
    # the security archive signs its components as updates/main, while its directories are plain
    paths = [f"{component}/binary-{architecture}/Packages{suffix}" for suffix in _COMPRESSIONS]
    return next((files[path] for path in paths if path in files), None)


def _compile(download: Path, path: Path, file: IndexFile, base: str, url: str) -> bytes:
    data = _decompress(download.read_bytes(), file.path, url)
    mentioned: dict[bytes, None] = {}
    compact = encode_compact(parse_packages(data, base=base, what=url, mentioned=mentioned), mentioned)
    store_compact(path, compact)
    return compact


def _decompress(data: bytes, name: str, url: str) -> bytes:
    """The uncompressed index, bounded; raises DataCorrupt."""
    try:
        if name.endswith(".xz"):
            xz = lzma.LZMADecompressor(memlimit=256 << 20)
            plain, complete = xz.decompress(data, INDEX_LIMIT), xz.eof
        elif name.endswith(".gz"):
            gz = zlib.decompressobj(wbits=31)
            plain, complete = gz.decompress(data, INDEX_LIMIT), gz.eof
        else:
            plain, complete = data, len(data) <= INDEX_LIMIT
    except (lzma.LZMAError, zlib.error) as error:
        raise DataCorrupt(f"{url}: {error}") from error
    if not complete:
        raise DataCorrupt(f"{url}: truncated, or more than {INDEX_LIMIT} bytes")
    return plain
