"""An archive of made-up packages, and a catalogue that assembles from it."""

from __future__ import annotations

import hashlib
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deb_parts import control, deb, member
from test_distroless_archive import Mirror

from tare.distroless.catalogue import DebianCatalogue
from tare.distroless.settings import ArchiveSettings
from tare.model import Platform
from tare.model.assembly import Assembled, Assembly, PackageWish
from tare.store.store import Store

Member = tuple[tarfile.TarInfo, bytes]


def licence(package: str) -> Member:
    return member(f"./usr/share/doc/{package}/copyright", b"free")


@dataclass
class MadeUpArchive:
    """Packages by name and version; ``publish`` makes the mirror's index say what was added."""

    mirror: Mirror
    stanzas: dict[tuple[str, str], str] = field(default_factory=dict)

    def add(self, name: str, *data: Member, version: str = "1", extra: dict[str, str] | None = None, **fields: str):
        text = control(name, version, **fields)
        content = deb(text, *data, licence(name), suffix=".gz", extra=extra)
        self.mirror.files[f"/debian/pool/{name}_{version}.deb"] = content
        digest = hashlib.sha256(content).hexdigest()
        place = f"Filename: pool/{name}_{version}.deb\nSize: {len(content)}\nSHA256: {digest}\n"
        self.stanzas[name, version] = f"{text}{place}"

    def forget(self, name: str, version: str = "1") -> None:
        """Take a version out of the index and the pool, as archives do with what was replaced."""
        del self.stanzas[name, version], self.mirror.files[f"/debian/pool/{name}_{version}.deb"]

    def publish(self) -> None:
        self.mirror.publish("\n".join(self.stanzas.values()))


class Nobody:
    """An executor that is never needed: distroless images run nothing."""

    async def execute(self, *_: Any) -> int:
        raise AssertionError("nothing is executed")


@dataclass
class Workshop:
    """A store with a catalogue of its own."""

    store: Store
    catalogue: DebianCatalogue
    progress: list[tuple[str, str]] = field(default_factory=list)

    @classmethod
    async def open(cls, root: Path, mirror: Mirror) -> Workshop:
        settings = ArchiveSettings(mirrors=(f"{mirror.url}/debian",), suites=("bookworm",), keyring=mirror.keyring)
        store = await Store.open(root)
        return cls(store, DebianCatalogue(store, Nobody(), settings, root / "packages"))  # type: ignore[arg-type]

    async def assemble(self, *wishes: str | PackageWish, **fields: Any) -> Assembled:
        """Assemble on no base."""
        packages = tuple(PackageWish(name=wish) if isinstance(wish, str) else wish for wish in wishes)
        assembly = Assembly(**{"base": "", "packages": packages, **fields})
        self.progress.clear()
        async with self.store.leases.hold() as lease:
            return await self.catalogue.assemble_packages(
                assembly, Platform("linux", "amd64"), lambda *step: self.progress.append(step), lease=lease
            )

    async def members(self, done: Assembled) -> dict[str, tarfile.TarInfo]:
        image = await self.store.images.get(done.image)
        with tarfile.open(self.store.layers.path(image.diff_ids[0])) as archive:
            return {item.name: item for item in archive}

    async def files(self, done: Assembled) -> set[str]:
        """The files that come from packages, without licences."""
        made = ("etc/passwd", "etc/group", "etc/nsswitch.conf", "var/lib/dpkg/", "var/lock", "var/run")
        return {
            name
            for name, item in (await self.members(done)).items()
            if not item.isdir() and not name.startswith(made) and not name.endswith("/copyright") and "/" in name
        }

    async def read(self, done: Assembled, path: str) -> bytes:
        image = await self.store.images.get(done.image)
        with tarfile.open(self.store.layers.path(image.diff_ids[0])) as archive:
            stream = archive.extractfile(path)
            assert stream is not None
            return stream.read()
