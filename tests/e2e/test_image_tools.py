"""``tare image tree``, ``tare image diff`` and filters of images, as people and Docker's clients send them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from engine_process import EngineProcess


@pytest.fixture(scope="module")
def pair(engine: EngineProcess, busybox: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Two images on ``busybox``, the second made of the first."""
    assert busybox
    context = tmp_path_factory.mktemp("image-tools")
    (context / "data").write_bytes(b"d" * 50_000)
    (context / "old").write_text(
        "FROM busybox\nCOPY data /data\nCOPY data /gone\nENV A=1 KEPT=yes\nLABEL image.tools=old only=old\n"
    )
    (context / "new").write_text(
        "FROM tools-old\nRUN echo more >> /data; chmod 600 /gone; ln -s data /link\n"
        "RUN mv /gone /moved\nENV A=2\nUSER 7\nLABEL image.tools=new\n"
    )
    for name in ("old", "new"):
        engine.tare("build", "-q", "-t", f"tools-{name}", "-f", str(context / name), str(context))
    yield "tools-old", "tools-new"
    engine.tare("rmi", "tools-new", "tools-old")


def document(engine: EngineProcess, *arguments: str) -> Any:
    return json.loads(engine.tare("image", *arguments, "--json").stdout)


def test_the_tree_has_the_shared_layers_once(engine: EngineProcess, pair: tuple[str, str]) -> None:
    found = document(engine, "tree")
    old, new, base = (
        next(one for one in found["images"] if f"{name}:latest" in one["tags"]) for name in (*pair, "busybox")
    )
    assert new["layers"] > old["layers"] > base["layers"]
    assert new["own"] > 50_000  # /data once more, as it was changed
    assert old["own"] == 0
    assert new["shared"] >= old["size"] > base["size"] + 100_000
    below = []
    number = new["branch"]
    while number is not None:
        below.append(number)
        number = found["branches"][number]["parent"]
    assert below.index(old["branch"]) < below.index(base["branch"])
    for image in found["images"]:
        listed = json.loads(engine.docker("image", "inspect", image["id"]).stdout)[0]
        assert image["size"] == listed["Size"]
        assert image["layers"] == len(listed["RootFS"]["Layers"])


def test_the_tree_is_drawn(engine: EngineProcess, pair: tuple[str, str]) -> None:
    lines = engine.tare("image", "tree", "--layers").stdout.decode().splitlines()
    assert any("─ " in line and line.endswith("tools-new:latest") for line in lines)
    assert any("COPY data /data" in line for line in lines)
    assert any(line.startswith("tools-old:latest") and line.endswith(" 0B") for line in lines)
