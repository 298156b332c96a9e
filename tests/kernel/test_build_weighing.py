"""What instructions weigh, what is written twice, and budgets."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest
from build_bench import Bench

from tare.build.ops.hidden import hidden_by
from tare.errors import InvalidArgument, NotFound
from tare.model import Reference

pytestmark = pytest.mark.root

MILLION = 1_000_000


async def weights(bench: Bench, text: str) -> dict[str, tuple[int, int, bool]]:
    result = await bench.build(text)
    return {line.text: (line.bytes, line.rewritten, line.shipped) for line in result.ledger}


async def test_every_instruction_has_the_bytes_of_its_files(bench: Bench) -> None:
    (bench.context / "f").write_bytes(b"x" * 700)
    found = await weights(
        bench,
        "FROM test.local/base:1 AS build\nCOPY f /f\nRUN cat /f /f > /g; ln /g /h; mkdir /d\n"
        "FROM scratch\nCOPY --from=build /g /h /\n",
    )
    assert found["COPY f /f"] == (700, 0, False)
    assert found["RUN cat /f /f > /g; ln /g /h; mkdir /d"] == (1400, 0, False)  # a hard link weighs nothing
    assert found["COPY --from=build /g /h /"][1:] == (0, True)


async def test_what_is_replaced_or_deleted_later_is_written_twice(bench: Bench) -> None:
    (bench.context / "d").mkdir()
    for name in ("a", "b"):
        (bench.context / "d" / name).write_bytes(b"x" * 300)
    text = (
        "FROM test.local/base:1\nCOPY d /d\nCOPY d/a /d/b\nRUN rm /d/a\nRUN rm -r /d\n"
        "RUN mkdir /d; echo new > /d/a\nRUN chmod 600 /etc/passwd\n"
    )
    found = await weights(bench, text)
    assert {name: twice for name, (_, twice, _) in found.items() if not name.startswith("FROM")} == {
        "COPY d /d": 0,
        "COPY d/a /d/b": 300,
        "RUN rm /d/a": 300,
        "RUN rm -r /d": 300,
        "RUN mkdir /d; echo new > /d/a": 0,
        "RUN chmod 600 /etc/passwd": (await passwd_size(bench)),
    }
    assert found == await weights(bench, text), "a cached build weighs the same"


async def passwd_size(bench: Bench) -> int:
    image = await bench.store.images.resolve("test.local/base:1")
    with tarfile.open(bench.store.layers.path(image.diff_ids[0])) as archive:
        return archive.getmember("etc/passwd").size


async def test_a_directory_removed_and_made_anew_hides_what_was_in_it(bench: Bench) -> None:
    text = "FROM test.local/base:1\nRUN mkdir /d; echo 123 > /d/a\nRUN rm -r /d; mkdir /d; echo 1234567 > /d/b\n"
    found = await weights(bench, text)
    assert found["RUN rm -r /d; mkdir /d; echo 1234567 > /d/b"][:2] == (8, 4)


async def test_an_archive_that_replaces_files_is_seen(bench: Bench) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        member = tarfile.TarInfo("etc/group")
        member.size = 3
        archive.addfile(member, io.BytesIO(b"abc"))
    (bench.context / "a.tar").write_bytes(buffer.getvalue())
    found = await weights(bench, "FROM test.local/base:1\nADD a.tar /\n")
    size, twice, _ = found["ADD a.tar /"]
    assert size == 3
    assert twice > 3


async def test_a_copied_layer_that_is_kept_counts_what_it_hides_here(bench: Bench) -> None:
    (bench.context / "f").write_bytes(b"x" * 50)
    text = "FROM test.local/base:1\nRUN {0}\nCOPY f /f\n"
    assert (await weights(bench, text.format("true")))["COPY f /f"][1] == 0
    assert (await weights(bench, text.format("echo 1234567 > /f")))["COPY f /f"][1] == 8


def test_names_that_are_not_there_hide_nothing(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("four")
    os.symlink("f", tmp_path / "link")
    assert hidden_by(["f", "link", "none", "no/such/file"], tmp_path) == 4


async def test_a_budget_that_is_exceeded_names_the_heaviest_instruction_and_tags_nothing(bench: Bench) -> None:
    (bench.context / "f").write_bytes(b"x" * 3 * MILLION)
    text = "FROM test.local/base:1\nCOPY f /big\n"
    name = Reference.parse("test.local/heavy:1")
    with pytest.raises(InvalidArgument, match=r"more than the budget of 4\.0 MB") as caught:
        await bench.build(text, tags=(name,), budget=4 * MILLION)
    assert caught.value.code == "over-budget"
    assert "3.0 MB  Dockerfile:2  COPY f /big" in caught.value.message
    with pytest.raises(NotFound):
        await bench.store.images.resolve(name.familiar())
    await bench.build(text, tags=(name,), budget=50 * MILLION)
    assert bench.done()["COPY f /big"].cached
