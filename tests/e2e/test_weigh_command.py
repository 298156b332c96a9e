"""``tare weigh`` as people type it."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine_process import EngineProcess

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def pair(engine: EngineProcess, busybox: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """An image that carries things about, and one that does not."""
    assert busybox
    context = tmp_path_factory.mktemp("weigh")
    (context / "fat").write_text(
        "FROM busybox AS tools\nRUN mkdir /src; head -c 300000 /dev/zero > /src/big; cp /src/big /app\n"
        "FROM busybox\nCOPY --from=tools /src /src\nCOPY --from=tools /app /app\nRUN chmod 755 /app\nRUN rm -r /src\n"
    )
    (context / "lean").write_text(
        "FROM busybox AS tools\nRUN mkdir /src; head -c 300000 /dev/zero > /src/big; cp /src/big /app\n"
        "FROM busybox\nCOPY --from=tools --chmod=755 /app /app\n"
    )
    for name in ("fat", "lean"):
        engine.tare("build", "-q", "-t", f"weigh-{name}", "-f", str(context / name), str(context))
    yield "weigh-fat", "weigh-lean"
    engine.tare("rmi", "weigh-fat", "weigh-lean")


def answer(engine: EngineProcess, *arguments: str) -> str:
    return engine.tare("weigh", *arguments).stdout.decode()


def test_the_listing_says_where_the_bytes_are_and_what_to_do(engine: EngineProcess, pair: tuple[str, str]) -> None:
    text = answer(engine, pair[0])
    assert "written twice:       300kB" in text
    assert "deleted later:       300kB" in text
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert any(line.startswith("1 300kB 300kB stage-1 fat:4 COPY --from=tools /src /src") for line in lines)
    assert "600kB could be saved:" in text
    assert "are deleted by layer 4 (RUN rm -r /src): they are shipped all the same [deleted-later]" in text
    assert "1 file, such as /app" in text
    assert "fix: set owner, mode and time where the files are made: COPY --chown and --chmod" in text
    assert answer(engine, pair[0], "--top", "1").count("… and") >= 2


def test_json_has_every_row_and_adds_up(engine: EngineProcess, pair: tuple[str, str]) -> None:
    found = json.loads(answer(engine, "--json", "--depth", "1", pair[0]))
    assert {one["code"]: one["bytes"] for one in found["suggestions"]} == {
        "deleted-later": 300_000,
        "metadata-only": 300_000,
    }
    for rows in found["by"].values():
        assert sum(row["bytes"] for row in rows) == found["shipped"]
    assert found["shipped"] + found["headers"] == found["size"]
    images = json.loads(engine.docker("image", "inspect", pair[0]).stdout)
    assert found["size"] == images[0]["Size"]
    assert {"/", "/app", "/src", "/bin"} & {row["path"] for row in found["by"]["directory"]} == {"/", "/src", "/bin"}


def test_two_images_are_compared(engine: EngineProcess, pair: tuple[str, str]) -> None:
    text = answer(engine, "--compare", *pair)
    rows = [" ".join(line.split()) for line in text.splitlines()]
    assert "layers 5 2 2.5 : 1" in rows
    assert "packages 0 0 -" in rows
    assert "deleted later 300kB 0B -" in rows
    assert "/src 300kB - -300kB" in rows
    difference = json.loads(answer(engine, "--compare", "--json", *pair))["difference"]
    assert difference["visible"] == 0
    assert difference["deleted"] == difference["replaced"] == 300_000
    assert difference["shared"] > 0
    assert {row["path"]: row["bytes"] for row in difference["directory"]} == {"/": 300_000, "/src": 300_000}


@pytest.mark.parametrize("ending", ["svg", "html"])
def test_a_treemap_is_drawn(engine: EngineProcess, pair: tuple[str, str], tmp_path: Path, ending: str) -> None:
    file = tmp_path / f"map.{ending}"
    answer(engine, pair[0], "--treemap", str(file))
    text = file.read_text()
    drawing = ElementTree.fromstring(text[text.index("<svg") : text.index("</svg>") + 6])
    titles = [title.text or "" for title in drawing.iter(f"{SVG}title")]
    assert any(title.startswith("/src: 300kB, 300kB of it unseen") for title in titles)
    assert ("What could be saved" in text) is (ending == "html")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nothing-here",), "No such image: nothing-here:latest"),
        (("--compare", "busybox"), "takes two images, the fat one and the lean one, not 1"),
        (("busybox", "busybox"), "one image is weighed at a time, not 2"),
        (("--treemap", "map.png", "busybox"), "a file that ends with .svg or .html"),
        (("--treemap", "/no/such/place/map.svg", "busybox"), "--treemap /no/such/place/map.svg: No such file"),
        (("--depth", "0", "busybox"), "0 is not in the range x>=1"),
    ],
)
def test_what_cannot_be_done_is_said(
    engine: EngineProcess, pair: tuple[str, str], arguments: tuple[str, ...], words: str
) -> None:
    done = engine.tare("weigh", *arguments, check=False)
    assert done.returncode != 0
    assert words in done.stderr.decode()
    assert not done.stdout
