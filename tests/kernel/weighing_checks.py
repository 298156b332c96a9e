"""What holds of every weighed image: the sums, what the kernel shows, what dpkg says, valid bills of materials."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import tarfile
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from spdx_documents import valid_spdx
from tare.engine.boms import BillsOfMaterials
from tare.engine.weigh import Weigher
from tare.inventory.packages import NOBODY
from tare.inventory.scan import Inventory, take_inventory
from tare.inventory.tree import walk
from tare.store.images import Image
from tare.store.store import Store


@asynccontextmanager
async def mounted(store: Store, image: Image) -> AsyncIterator[Path]:
    lowers = [await store.snapshots.ensure_layer(diff_id) for diff_id in image.diff_ids]
    with tempfile.TemporaryDirectory(prefix="weighing-test-") as name:
        await store.snapshots.view(lowers, Path(name))
        try:
            yield Path(name)
        finally:
            await store.snapshots.unmount(Path(name))


def seen(root: Path) -> tuple[dict[str, tuple[int, int]], int]:
    """What the kernel shows: mode and size of each name, and the bytes of all files."""
    names: dict[str, tuple[int, int]] = {}
    inodes: dict[int, int] = {}
    for place, directories, files in os.walk(root):
        for name in (*directories, *files):
            status = os.lstat(f"{place}/{name}")
            size = status.st_size if stat.S_ISREG(status.st_mode) else 0
            names[os.path.relpath(f"{place}/{name}", root)] = (stat.S_IMODE(status.st_mode), size)
            if stat.S_ISREG(status.st_mode):
                inodes[status.st_ino] = size
    return names, sum(inodes.values())


def inventory_of(store: Store, image: Image) -> Inventory:
    return take_inventory([store.layers.path(diff_id) for diff_id in image.diff_ids])


async def assert_exact(store: Store, weigher: Weigher, image: Image) -> dict[str, Any]:
    """The weighing, whose listings add up to what Python's own reader finds in the layers."""
    found = await weigher.weigh(image)
    shipped = 0
    for diff_id in image.diff_ids:
        with tarfile.open(store.layers.path(diff_id)) as archive:
            shipped += sum(member.size for member in archive if member.isreg())
    assert found["size"] == image.size == found["shipped"] + found["headers"]
    assert found["shipped"] == shipped
    for listing in ("layer", "stage", "instruction", "package", "directory"):
        rows = found["by"][listing]
        assert sum(row["bytes"] for row in rows) == shipped, listing
        assert sum(row["hidden"] for row in rows) == found["replaced"] + found["deleted"], listing
    assert sum(row["size"] for row in found["by"]["layer"]) == image.size
    assert found["tree"]["bytes"] == shipped
    assert found["packages"] == len(inventory_of(store, image).packages)
    return found


async def assert_seen(store: Store, found: dict[str, Any], image: Image) -> None:
    """What is visible is what the kernel shows of the image's layers."""
    inventory = inventory_of(store, image)
    async with mounted(store, image) as root:
        names, visible = seen(root)
    ours = {path: (node.mode, node.content.size if node.content else 0) for path, node in walk(inventory.root)}
    links = {path for path, node in walk(inventory.root) if node.target}
    assert {path: one for path, one in ours.items() if path not in links} == {
        path: one for path, one in names.items() if path not in links
    }
    assert ours.keys() == names.keys()
    assert found["visible"] == found["content_size"] == visible


MADE = re.compile(
    r"etc/(?:passwd|group|nsswitch\.conf|timezone|ssl/certs/(?:ca-certificates\.crt|java/cacerts))|busybox/busybox"
    r"|var/www/html/index\.nginx-debian\.html|etc/mysql/mariadb\.conf\.d/05-container\.cnf"
    r"|etc/inputrc|etc/\.java/\.systemPrefs/[.\w]+|var/log/nginx/\w+\.log|etc/ld\.so\.cache"
)
"""Files that the assembler makes or moves itself."""


def assert_only_made_files_are_nobodys(inventory: Inventory) -> None:
    """All that comes out of a package is known as its, configuration files included."""
    nobodys = [path for path, _, content in inventory.files() if content not in inventory.owners]
    strange = [path for path in nobodys if not MADE.fullmatch(path)]
    assert strange == [], strange


async def assert_bills_are_valid(store: Store, image: Image, name: str) -> None:
    """Both formats by their own validators, every file once in each."""
    boms = BillsOfMaterials(store)
    files = []
    for kind in ("spdx-json", "cyclonedx-json"):
        _, pieces = await boms.make(image, name, kind)
        text = b"".join([piece async for piece in pieces]).decode()
        if kind == "spdx-json":
            files.append(sorted(one["fileName"][1:] for one in valid_spdx(text)["files"]))
        else:
            assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
            parts = [one for part in json.loads(text)["components"] for one in (part, *part.get("components", ()))]
            files.append(sorted(one["name"] for one in parts if one["type"] == "file"))
    async with mounted(store, image) as root:
        places = [(place, names) for place, _, names in os.walk(root)]
        paths = [os.path.join(place, name) for place, names in places for name in names]
        seen_files = sorted("/" + os.path.relpath(path, root) for path in paths if not os.path.islink(path))
    assert files == [seen_files, seen_files]


def assert_dpkg_agrees(inventory: Inventory, root: Path) -> None:
    """Each file's owner is the one that dpkg names, no more and no less."""
    admin = f"--admindir={root}/var/lib/dpkg"
    listed = subprocess.run(
        ["dpkg-query", admin, "-W", "-f", "${binary:Package} ${Package}\n"], capture_output=True, text=True, check=True
    )
    expected: dict[str, set[str]] = {}
    for line in listed.stdout.splitlines():
        qualified, name = line.split()
        paths = subprocess.run(["dpkg-query", admin, "-L", qualified], capture_output=True, text=True, check=True)
        for path in paths.stdout.splitlines():
            parent, _, last = path.strip("/").rpartition("/")
            place = root / parent
            real = os.path.relpath(os.path.realpath(place) if place.is_symlink() or place.exists() else place, root)
            expected.setdefault(os.path.normpath(f"{real}/{last}"), set()).add(name)
    wrong = []
    for path, _, content in inventory.files():
        owner = inventory.owners.get(content, NOBODY)
        about = path.startswith("var/lib/dpkg/info/")  # dpkg's own notes of a package
        if owner is not NOBODY and owner.kind == "deb" and owner.name not in expected.get(path, set()) and not about:
            wrong.append((path, owner.name))
        if owner is NOBODY and path in expected:
            wrong.append((path, "nobody's, but " + ", ".join(expected[path])))
    assert not wrong
    assert len(inventory.packages) == len(listed.stdout.splitlines())
