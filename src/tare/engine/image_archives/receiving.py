"""Receive an image archive: every layer goes uncompressed into a file of the store's own, in one pass over the stream.

The members may come in any order, and what they are is told by their first bytes: what begins like a tar, or like a
compressed stream, is taken for a layer and hashed while it is written, so that installing it is a rename; anything
else that is small is kept as a document. Nothing of it gets a name outside the staging directory.
"""

from __future__ import annotations

import os
import posixpath
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import BinaryIO

from tare.archive.compression import Compression, decompress, detect
from tare.archive.entry import Entry, Kind
from tare.archive.expansion import Counted, Expanded, ExpansionLimits
from tare.archive.tar_stream import BLOCK, Limits, is_tar_header, iter_entries
from tare.base.readers import CHUNK, Readable, VerifyingReader
from tare.errors import DataCorrupt, InvalidArgument
from tare.model import Digest
from tare.oci.layout import BLOBS, DOCUMENT_LIMIT
from tare.store.files import StagedFile, stage_file
from tare.store.incoming import LayerCheck
from tare.store.space import disk_errors
from tare.store.threads import Abort, Aborted

_MEMBERS = 100_000  # of one archive: a thousand images have fewer
_LINKS = 40  # symbolic links in a row, as the kernel has it
_TOLD_BYTES = 512 * 1024  # between two messages about a layer, at most this and at most a hundredth, as Docker has it
_TOLD_SECONDS = 0.1
_ENDLESS = 1 << 62
_HINT = "it is damaged, was cut short, or is no image archive: make or send it again"

Tell = Callable[[str, int, int], None]
"""Called with a layer's name (hexadecimal digits), the bytes of it that have come, and all of them."""


@dataclass(frozen=True, slots=True)
class Document:
    """A small file: where it lies among the others, and its digest."""

    digest: Digest
    size: int
    offset: int


@dataclass(frozen=True, slots=True)
class StagedLayer:
    """A layer in a file of its own, uncompressed. ``digest`` and ``size`` are those of the bytes in the archive.

    ``fault`` is why no image may have it.
    """

    digest: Digest
    size: int
    file: StagedFile
    fault: DataCorrupt | None


@dataclass(frozen=True, slots=True)
class StoredLayer:
    """A layer that is in the store already, and was passed over."""

    digest: Digest
    size: int


@dataclass(frozen=True, slots=True)
class Ignored:
    """Something that is neither a layer nor small enough for a document."""

    size: int


Member = Document | StagedLayer | StoredLayer | Ignored


class Received:
    """The members of an archive by their paths; end it with :meth:`discard`, in a thread."""

    def __init__(self, documents: BinaryIO) -> None:
        self.members: dict[str, Member] = {}
        self._links: dict[str, str] = {}
        self._documents = documents

    def find(self, path: str) -> Member | None:
        """What is at ``path``, symbolic links followed. Raises DataCorrupt when it leads out of the archive."""
        place = _inside(path, path)
        for _ in range(_LINKS):
            if place not in self._links:
                return self.members.get(place)
            place = _inside(self._links[place], path)  # here, as archives may have links that nothing needs
        raise DataCorrupt(f"{_shown(path)}: too many symbolic links", code="archive-damaged", hint=_HINT)

    def read(self, document: Document) -> bytes:
        """The bytes of a document."""
        return os.pread(self._documents.fileno(), document.size, document.offset)

    def discard(self) -> None:
        """Delete what was not installed; idempotent."""
        self._documents.close()
        for member in self.members.values():
            if isinstance(member, StagedLayer):
                member.file.discard()

    def add(self, path: str, member: Member) -> None:
        """One more member. Raises DataCorrupt when there is another one of that name with other content."""
        known = self.members.get(path)
        if path in self._links or (known is not None and _identity(known) != _identity(member)):
            _drop(member)
            raise _twice(path)
        if known is None:
            self.members[path] = member
        else:
            _drop(member)

    def link(self, path: str, target: str) -> None:
        """A link, symbolic or hard, to a path in the archive. Raises as :meth:`add` does."""
        if path in self.members or self._links.get(path, target) != target:
            raise _twice(path)
        self._links[path] = target


def _drop(member: Member) -> None:
    if isinstance(member, StagedLayer):
        member.file.discard()


def _identity(member: Member) -> object:
    return (member.size, member.digest if not isinstance(member, Ignored) else None)


def _twice(path: str) -> DataCorrupt:
    return DataCorrupt(
        f"the archive has two different members {_shown(path)}", hint="make it again", code="archive-duplicate"
    )


def _shown(path: str) -> str:
    return repr(path[:200])


def _inside(path: str, shown: str) -> str:
    """``path`` in its normal form. Raises DataCorrupt when it leads out of the archive."""
    place = posixpath.normpath(path.lstrip("/") or ".")
    if place.split("/")[0] == "..":
        raise DataCorrupt(f"{_shown(shown)}: leads out of the archive", hint="make it again", code="archive-outside")
    return place


class Receiver:
    """Receives one archive, in a thread.

    ``stored(digest)`` is the size of a layer that the store has, which it then has to keep, else None; ``tell`` hears
    of the layers that come.
    """

    def __init__(
        self,
        staging: Path,
        limits: ExpansionLimits,
        stored: Callable[[Digest], int | None],
        tell: Tell | None,
        abort: Abort,
    ) -> None:
        self._staging = staging
        self._limits = limits
        self._stored = stored
        self._tell = tell
        self._abort = abort
        self._end = 0  # of the documents

    def receive(self, stream: Readable) -> Received:
        """Read a tar, plain or compressed, to its end.

        Raises DataCorrupt for a damaged archive and for members that contradict each other, InvalidArgument
        (``layer-bomb``), Exhausted; nothing stays behind then.
        """
        with disk_errors(self._staging):
            documents = tempfile.TemporaryFile(dir=self._staging, prefix="documents-")  # noqa: SIM115 - Received has it
        received = Received(documents)
        try:
            compressed = Counted(stream)
            with _damaged("image archive"):
                plain = decompress(compressed)
            # What arrives has been sent: only what a compressed archive unpacks to needs a limit.
            source = Expanded(plain, compressed, replace(self._limits, size=_ENDLESS), _refusal("the archive"))
            members = iter_entries(source, limits=Limits(members=_MEMBERS), allow_absolute=False)
            while (member := _next(members)) is not None:
                self._abort.check()
                self._add(received, documents, *member)
        except BaseException:
            received.discard()
            raise
        return received

    def _add(self, received: Received, documents: BinaryIO, entry: Entry, content: Readable | None) -> None:
        if entry.kind is Kind.SYMLINK:
            received.link(entry.path, posixpath.join(posixpath.dirname(entry.path), entry.target))
        elif entry.kind is Kind.HARDLINK:
            received.link(entry.path, entry.target)
        elif content is not None:
            with _damaged(_shown(entry.path)):
                received.add(entry.path, self._member(entry, content, documents))

    def _member(self, entry: Entry, content: Readable, documents: BinaryIO) -> Member:
        digest = _digest_in(entry.path)
        if digest is not None and self._stored(digest) == entry.size:
            return StoredLayer(digest, entry.size)
        head = _read_head(content)
        source = _Resumed(head, content)
        if detect(head) is not Compression.NONE or is_tar_header(head) or (len(head) == BLOCK and not any(head)):
            return self._layer(entry, head, source)
        if entry.size > DOCUMENT_LIMIT:
            return Ignored(entry.size)
        return self._document(source, documents)

    def _document(self, source: Readable, documents: BinaryIO) -> Document:
        data = b""
        while chunk := source.read(CHUNK):
            data += chunk
        with disk_errors(self._staging):
            os.pwrite(documents.fileno(), data, self._end)
        self._end += len(data)
        return Document(Digest.of(data), len(data), self._end - len(data))

    def _layer(self, entry: Entry, head: bytes, source: Readable) -> StagedLayer:
        watched = _Watched(source, _short_name(entry.path), entry.size, self._tell) if self._tell else source
        check = LayerCheck()
        if detect(head) is Compression.NONE:
            produce = partial(check.copy, watched)
            file = stage_file(self._staging, produce, self._abort, what=entry.path)
            return StagedLayer(file.digest, file.size, file, check.fault)
        raw = VerifyingReader(watched, what=entry.path)

        def unpack(sink: BinaryIO) -> None:
            counted = Counted(raw)
            refuse = _refusal(f"layer {entry.path[:200]}")
            check.copy(Expanded(decompress(counted), counted, self._limits, refuse), sink)
            while raw.read(CHUNK):
                pass  # what follows the compressed stream has a part in the digest

        file = stage_file(self._staging, unpack, self._abort, what=entry.path)
        return StagedLayer(Digest(raw.sha256), raw.size, file, check.fault)


def _refusal(what: str) -> Callable[[str, str], InvalidArgument]:
    def refuse(excess: str, limit: str) -> InvalidArgument:
        setting = "max_layer_bytes" if limit == "size" else "max_layer_ratio"
        return InvalidArgument(
            f"{what}: it unpacks to {excess}",
            hint=f"if it is meant to, raise {setting} in the section images of the configuration",
            code="layer-bomb",
        )

    return refuse


def _next(members: Iterator[tuple[Entry, Readable | None]]) -> tuple[Entry, Readable | None] | None:
    with _damaged("image archive"):
        return next(members, None)


@contextmanager
def _damaged(what: str) -> Iterator[None]:
    """Name what is damaged, and what to do."""
    try:
        yield
    except Aborted:
        raise
    except DataCorrupt as error:
        if error.code.startswith("archive-"):
            raise
        text = error.message if what in error.message else f"{what}: {error.message}"
        raise DataCorrupt(text, hint=error.hint or _HINT, code="archive-damaged") from error


def _digest_in(path: str) -> Digest | None:
    """The digest that a blob of a layout is named by."""
    directory, _, name = path.rpartition("/")
    if directory != BLOBS or len(name) != 64 or name.strip("0123456789abcdef"):
        return None
    return Digest(name)


def _short_name(path: str) -> str:
    """What a layer is called while it comes: the beginning of the digest or identifier in its path."""
    parts = [part.removeprefix("sha256:").partition(".")[0] for part in path.split("/")]
    named = [part for part in parts if len(part) == 64 and not part.strip("0123456789abcdef")]
    return (named[-1] if named else parts[-1])[:12]


def _read_head(content: Readable) -> bytes:
    head = b""
    while len(head) < BLOCK and (more := content.read(BLOCK - len(head))):
        head += more
    return head


class _Resumed:
    """A stream with its first bytes put back."""

    def __init__(self, head: bytes, stream: Readable) -> None:
        self._head = head
        self._stream = stream

    def read(self, size: int = -1, /) -> bytes:
        if not self._head:
            return self._stream.read(size)
        head, self._head = (self._head, b"") if size < 0 else (self._head[:size], self._head[size:])
        return head


class _Watched:
    """Tells how much of a layer has come, not more often than somebody can look."""

    def __init__(self, stream: Readable, name: str, total: int, tell: Tell) -> None:
        self._stream = stream
        self._name = name
        self._total = total
        self._tell = tell
        self._come = 0
        self._step = min(_TOLD_BYTES, total // 100)
        self._told = 0
        self._when = 0.0

    def read(self, size: int = -1, /) -> bytes:
        data = self._stream.read(size)
        self._come += len(data)
        if data and self._come - self._told >= self._step:
            now = time.monotonic()
            if self._come == self._total or now - self._when >= _TOLD_SECONDS:
                self._told, self._when = self._come, now
                self._tell(self._name, self._come, self._total)
        return data
