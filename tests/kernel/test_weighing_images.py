"""Weights of real images: exact, and what the kernel shows of the layers."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import os
import random
import tarfile
from pathlib import Path
from typing import Any

import pytest
from build_bench import Bench
from weighing_checks import assert_exact, assert_seen

from tare.archive.entry import Entry, Kind
from tare.archive.tar_writer import TarWriter
from tare.engine.weigh import Weigher
from tare.errors import DataCorrupt
from tare.inventory.scan import take_inventory
from tare.inventory.tree import Fate, walk

pytestmark = [pytest.mark.root, pytest.mark.timeout(300)]

BUILT = {
    "hard links": "RUN echo 12345678 > /a; ln /a /b; ln /a /c\nRUN rm /a\nRUN rm /b; echo other > /c\n",
    "whiteouts": "RUN mkdir /d; echo 1 > /d/a; echo 22 > /d/b\nRUN rm /d/a\nRUN rm -r /d\n",
    "opaque directories": "RUN mkdir -p /d/e; echo 1 > /d/e/a\nRUN rm -r /d; mkdir /d; echo 22 > /d/b\n",
    "opaque, with what was there": "RUN mkdir /d; echo 1 > /d/a\nRUN rm -r /d; mkdir /d; echo 22 > /d/a\n",
    "sparse files": "RUN truncate -s 3000000 /s; echo end >> /s\nRUN truncate -s 1000 /s\n",
    "modes only": "COPY f /f\nRUN chmod 600 /f\nRUN chown 7:8 /f\n",
    "directory instead of file": "COPY f /x\nRUN rm /x; mkdir /x; echo 1 > /x/y\nRUN rm -r /x; ln -s f /x\n",
    "stages": "FROM test.local/base:1 AS two\nCOPY --from=0 /etc/passwd /p\nRUN cat /p /p > /q\n",
    "long names": f"RUN mkdir -p /{'n' * 90}/{'m' * 200}; echo 1 > /{'n' * 90}/{'m' * 200}/{'o' * 220}\n",
    "empty": "LABEL a=b\n",
    "extended attributes": "COPY f /f\nADD attributes.tar /\n",
    "links and pipes": "RUN ln -s nowhere /l; mkfifo /p; mknod /n c 1 3 || true; mkdir /w; chmod 1777 /w\n",
}


@pytest.fixture
def weigher(bench: Bench) -> Weigher:
    return Weigher(bench.store, bench.work / "weights")


@pytest.mark.parametrize("name", BUILT)
async def test_a_built_image_weighs_what_its_layers_ship(bench: Bench, weigher: Weigher, name: str) -> None:
    (bench.context / "f").write_bytes(b"f" * 777)
    with tarfile.open(bench.context / "attributes.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        member = tarfile.TarInfo("attributed")
        member.pax_headers = {"SCHILY.xattr.user.test": "v" * 300}
        archive.addfile(member)
    result = await bench.build(f"FROM test.local/base:1\n{BUILT[name]}")
    image = await bench.image(result)
    found = await assert_exact(bench.store, weigher, image)
    await assert_seen(bench.store, found, image)
    ledger = [(line.text, line.bytes) for line in result.ledger if line.shipped and not line.text.startswith("FROM")]
    assert [(row["instruction"], row["bytes"]) for row in found["by"]["layer"] if not row["base"]] == ledger
    twice = sum(line.rewritten for line in result.ledger if line.shipped)
    assert found["replaced"] + found["deleted"] == twice or name == "hard links"  # the weigh-in looks at names
    assert found == await weigher.weigh(await bench.image(result)), "what is kept is what was found"


async def test_stages_are_told_apart_and_the_last_build_counts(bench: Bench, weigher: Weigher) -> None:
    tools = "FROM test.local/base:1 AS tools\nRUN echo 1234567 > /tool\n"
    text = tools + "FROM test.local/base:1{0}\nCOPY --from=tools /tool /t\n"
    image = await bench.image(await bench.build(text.format("")))
    found = await weigher.weigh(image)
    assert [(row["stage"], row["bytes"], row["left"]) for row in found["by"]["stage"]][1:] == [
        ("stage-1", 8, 0), ("tools", 0, 8 + image_size(found)),
    ]  # fmt: skip
    assert found["by"]["layer"][-1]["source"] == "tools"
    again = await bench.image(await bench.build(text.format(" AS named")))
    assert again.id == image.id
    assert [row["stage"] for row in (await weigher.weigh(again))["by"]["stage"]][1:] == ["named", "tools"]


def image_size(found: dict[str, Any]) -> int:
    """Bytes of the base image's tars, which the weigh-in counts as left behind where a stage stands on it."""
    return sum(int(row["size"]) for row in found["by"]["layer"] if row["base"])


async def test_what_was_found_of_images_that_have_gone_is_forgotten(bench: Bench, weigher: Weigher) -> None:
    first, second = [await bench.image(await bench.build(f"FROM test.local/base:1\nLABEL a={n}\n")) for n in "12"]
    await weigher.weigh(first)
    await bench.store.images.remove(first.id)
    await weigher.weigh(second)
    assert [path.name for path in (bench.work / "weights").iterdir()] == [f"{second.id.hex}.json"]
    (bench.work / "weights" / f"{second.id.hex}.json").write_bytes(b"torn")
    assert (await weigher.weigh(second))["shipped"] > 0


async def test_images_are_weighed_beside_each_other_and_without_space_for_notes(bench: Bench, tmp_path: Path) -> None:
    images = [await bench.image(await bench.build(f"FROM test.local/base:1\nLABEL a={n}\n")) for n in range(6)]
    weigher = Weigher(bench.store, tmp_path / "weights")
    found = await asyncio.gather(*(weigher.weigh(image) for image in (*images, *images)))
    assert [one["id"] for one in found] == [str(image.id) for image in (*images, *images)]
    assert len(list((tmp_path / "weights").iterdir())) == 6
    (tmp_path / "file").touch()
    assert (await Weigher(bench.store, tmp_path / "file" / "weights").weigh(images[0])) == found[0]


def random_member(chance: random.Random) -> tuple[Entry, bytes]:
    """A member of a layer, among few names so that they meet; every kind, and both kinds of whiteouts."""
    path = "/".join(chance.choices("abc", k=chance.randint(1, 3)))
    parent, slash, name = path.rpartition("/")
    match chance.choice(("file", "file", "directory", "directory", "symlink", "hardlink", "whiteout", "opaque")):
        case "file":
            data = chance.randbytes(chance.randint(0, 9))
            return Entry(path=path, kind=Kind.FILE, mode=0o644, size=len(data)), data
        case "symlink":
            return Entry(
                path=path, kind=Kind.SYMLINK, mode=0o777, target=chance.choice(("a", "/b", "../c", "b/a"))
            ), b""
        case "hardlink":
            return Entry(path=path, kind=Kind.HARDLINK, mode=0o644, target=chance.choice(("a", "b/a", "c"))), b""
        case "whiteout":
            return Entry(path=f"{parent}{slash}.wh.{name}", kind=Kind.FILE, mode=0), b""
        case "opaque":
            return Entry(path=f"{path}/.wh..wh..opq", kind=Kind.FILE, mode=0), b""
    return Entry(path=path, kind=Kind.DIRECTORY, mode=chance.choice((0o755, 0o700))), b""


def random_layer(chance: random.Random) -> bytes:
    buffer = io.BytesIO()
    writer = TarWriter(buffer)
    for _ in range(chance.randint(1, 9)):
        entry, data = random_member(chance)
        writer.add(entry, io.BytesIO(data) if entry.kind is Kind.FILE else None)
    writer.finish()
    return buffer.getvalue()


async def test_random_layers_are_read_as_the_kernel_shows_them(bench: Bench) -> None:
    """Of all layers that can be unpacked, what is seen is what an overlay of them shows."""
    refused = compared = 0
    for seed in range(250):
        chance = random.Random(seed)
        layers = [await bench.store.layers.import_stream(io.BytesIO(random_layer(chance)), None) for _ in range(3)]
        usable = []
        for layer in layers:
            path = bench.store.layers.path(layer.diff_id)
            try:
                await bench.store.snapshots.ensure_layer(layer.diff_id)
            except DataCorrupt:
                with contextlib.suppress(DataCorrupt):  # some can be read, but nothing else may happen
                    take_inventory([path])
                refused += 1
            else:
                usable.append(layer.diff_id)
        if not usable:
            continue
        inventory = take_inventory([bench.store.layers.path(diff_id) for diff_id in usable])
        lowers = [await bench.store.snapshots.ensure_layer(diff_id) for diff_id in usable]
        target = bench.work / "seen"
        target.mkdir(exist_ok=True)
        await bench.store.snapshots.view(lowers, target)
        try:
            shown = {
                os.path.relpath(f"{place}/{name}", target): described(Path(place) / name)
                for place, directories, files in os.walk(target)
                for name in (*directories, *files)
                if os.path.lexists(f"{place}/{name}")  # overlayfs lists marks in directories that it need not merge
            }
        finally:
            await bench.store.snapshots.unmount(target)
        ours = {
            path: node.target or (node.content.sha256.hex() if node.content else "directory")
            for path, node in walk(inventory.root)
        }
        assert ours == shown, f"seed {seed}"
        visible = {content for _, _, content in inventory.files()}
        assert {content for content in inventory.contents() if content.fate is Fate.VISIBLE} == visible
        compared += 1
    assert compared > 150
    assert refused > 50


def described(path: Path) -> str:
    if path.is_symlink():
        return os.readlink(path)
    return "directory" if path.is_dir() else hashlib.sha256(path.read_bytes()).hexdigest()
