"""Which package owns a file, by the package databases in the image: dpkg's, distroless images' and apk's."""

from __future__ import annotations

import base64
import binascii
import hashlib
import posixpath
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from tare.archive.entry import Kind
from tare.audit.content import Examiner, Form
from tare.audit.files import finding
from tare.audit.findings import Finding
from tare.audit.tree import Inode, Tree

_DPKG = "/var/lib/dpkg/info"
_DISTROLESS = "/var/lib/dpkg/status.d"
_APK = ("/lib/apk/db/installed", "/usr/lib/apk/db/installed")
_DATABASES = ("/var/lib/dpkg", "/var/lib/apt", "/lib/apk", "/usr/lib/apk", "/var/cache", "/var/log")
_MAX_DATABASES = 128 << 20  # bytes; a desktop's are a tenth of it
_CHUNK = 1 << 20
_DEPTH = 3


@dataclass(slots=True)
class Ownership:
    """The files of packages: the sum that the package gives (empty where it gives none), by algorithm, by inode."""

    databases: int = 0
    owners: dict[int, str] = field(default_factory=dict)
    sums: dict[int, tuple[str, str]] = field(default_factory=dict)
    _compared: dict[int, bool] = field(default_factory=dict)
    _left: int = _MAX_DATABASES

    def published(self, inode: Inode, examiner: Examiner) -> bool:
        """Whether the file is exactly what a package of the distribution has, so that it can hold no secret."""
        if id(inode) not in self.sums:
            return False
        known = self._compared.get(id(inode))
        if known is None:
            algorithm, wanted = self.sums[id(inode)]
            known = self._compared[id(inode)] = _sum(inode, examiner, algorithm) == wanted
        return known

    def lines(self, inode: Inode, examiner: Examiner) -> list[str]:
        """The lines of a file of a database; none when all together are larger than databases are."""
        self._left -= inode.size
        if self._left < 0:
            return []
        try:
            data = examiner.layers.read(inode, inode.size)
        except OSError:
            return []
        return data.decode("utf-8", "surrogateescape").splitlines()


def read_ownership(tree: Tree, examiner: Examiner) -> Ownership:
    """Read the databases; what they say of files that are not there is left out."""
    found = Ownership()
    for path, inode in tree.files(_DISTROLESS):
        if path.endswith(".md5sums"):
            _read_sums(posixpath.basename(path).removesuffix(".md5sums"), inode, tree, examiner, found)
            found.databases += 1
    for path, inode in tree.files(_DPKG):
        package, _, kind = posixpath.basename(path).rpartition(".")
        if kind == "list":
            for name in found.lines(inode, examiner):
                _own(tree, found, name, package)
            found.databases += 1
        elif kind == "md5sums":
            _read_sums(package, inode, tree, examiner, found)
    for path in _APK:
        database = tree.find_file(path)
        if database is not None:
            _read_apk(found.lines(database[1], examiner), tree, found)
            found.databases += 1
    return found


def check_ownership(tree: Tree, examiner: Examiner, owned: Ownership) -> Iterator[Finding]:
    """Programs of no package one by one, other files by directory; files that are not as their package has them."""
    if not owned.databases:
        return
    others: Counter[tuple[str, int]] = Counter()
    for path, inode in tree.files():
        if id(inode) in owned.sums:
            if not owned.published(inode, examiner):
                package = owned.owners[id(inode)]
                yield finding("modified-file", path, f"not as in package {package}", layer=inode.layer)
        elif id(inode) not in owned.owners and not path.startswith(_DATABASES):
            if examiner.examine(inode).form in (Form.PROGRAM, Form.LIBRARY):
                yield finding("unowned-file", path, "a program or library of no package", layer=inode.layer)
            elif not path.startswith("/etc/"):  # settings are everybody's
                directory = "/".join(posixpath.dirname(path).split("/")[: _DEPTH + 1]) or "/"
                others[directory, inode.layer] += 1
    for (directory, layer), count in sorted(others.items()):
        what = "1 file of no package" if count == 1 else f"{count} files of no package"
        yield finding("unowned-file", directory, what, layer=layer)


def _read_sums(package: str, inode: Inode, tree: Tree, examiner: Examiner, found: Ownership) -> None:
    for line in found.lines(inode, examiner):
        digest, _, name = line.partition("  ")
        file = _own(tree, found, name, package)
        if file is not None and len(digest) == 32:
            found.sums[id(file)] = ("md5", digest)


def _read_apk(lines: list[str], tree: Tree, found: Ownership) -> None:
    """apk's index of installed packages: P package, F directory, R file, Z its sum as Q1 and base64 of a SHA-1."""
    package = directory = ""
    file: Inode | None = None
    for line in lines:
        key, _, value = line.partition(":")
        if key == "P":
            package = value
        elif key == "F":
            directory = value
        elif key == "R":
            file = _own(tree, found, f"{directory}/{value}", package)
        elif key == "Z" and file is not None and value.startswith("Q1"):
            try:
                found.sums[id(file)] = ("sha1", base64.b64decode(value[2:], validate=True).hex())
            except binascii.Error:
                continue


def _own(tree: Tree, found: Ownership, name: str, package: str) -> Inode | None:
    file = tree.find(name, follow=False) if name else None
    if file is None or file[1].kind is not Kind.FILE:
        return None
    found.owners[id(file[1])] = package
    return file[1]


def _sum(inode: Inode, examiner: Examiner, algorithm: str) -> str:
    digest = hashlib.new(algorithm, usedforsecurity=False)
    offset = 0
    try:
        while data := examiner.layers.read(inode, _CHUNK, offset):
            digest.update(data)
            offset += len(data)
    except OSError:
        return ""
    return digest.hexdigest()
