"""``tare image tree``, ``tare image diff`` and filters of images, as people and Docker's clients send them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine_process import EngineProcess
from tare.client.sync import connect
from tare.errors import InvalidArgument, NotFound


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


def test_the_difference_has_files_bytes_and_configuration(engine: EngineProcess, pair: tuple[str, str]) -> None:
    found = document(engine, "diff", *pair)
    assert {row["path"]: (row["change"], row["what"]) for row in found["difference"]["files"]} == {
        "/data": ("changed", ["content"]),
        "/gone": ("removed", []),
        "/moved": ("added", []),
        "/link": ("added", []),
    }
    assert found["difference"]["totals"] == {
        "added": {"names": 2, "before": 0, "after": 50_000},
        "removed": {"names": 1, "before": 50_000, "after": 0},
        "changed": {"names": 1, "before": 50_000, "after": 50_005},
    }
    fields = {(row["field"], row["key"]): (row["before"], row["after"]) for row in found["difference"]["configuration"]}
    fields.pop(("Created", ""), None)  # both may be made in one second
    assert fields == {("Env", "A"): ("1", "2"), ("Labels", "image.tools"): ("old", "new"), ("User", ""): (None, "7")}
    assert found["before"]["only"] == 0
    assert found["shared"] == found["before"]["size"]
    assert found["after"]["size"] == found["shared"] + found["after"]["only"]


def test_the_difference_is_drawn(engine: EngineProcess, pair: tuple[str, str]) -> None:
    lines = [" ".join(line.split()) for line in engine.tare("image", "diff", *pair).stdout.decode().splitlines()]
    assert "~ /data 50kB 50kB content" in lines
    assert "- /gone 50kB -" in lines
    assert "+ /link - - symlink" in lines
    assert "~ Env.A 1 2" in lines
    same = engine.tare("image", "diff", pair[0], pair[0]).stdout.decode()
    assert same.endswith("files, packages and configuration are the same\n")


def test_images_that_are_not_there_cannot_be_compared(engine: EngineProcess, pair: tuple[str, str]) -> None:
    for names in ((pair[0], "nothing-here"), ("nothing-here", pair[0])):
        done = engine.tare("image", "diff", *names, check=False)
        assert done.returncode == 1
        assert "No such image: nothing-here:latest" in done.stderr.decode()
        assert not done.stdout


def test_programs_ask_by_the_client_library(engine: EngineProcess, pair: tuple[str, str]) -> None:
    old, new = pair
    with connect(engine.host) as connection:
        found = connection.run(lambda client: client.images.diff(old, new))
        tree = connection.run(lambda client: client.images.tree())
        assert {found["before"]["id"], found["after"]["id"]} <= {image["id"] for image in tree["images"]}
        with pytest.raises(InvalidArgument, match="query parameter to is missing") as refused:
            connection.run(lambda client: client.images.diff(old, ""))
        assert refused.value.code == "image-diff-to"
        with pytest.raises(NotFound, match="No such image: nothing-here"):
            connection.run(lambda client: client.images.diff(old, "nothing-here"))


@pytest.fixture
def labelled(engine: EngineProcess, busybox: str, tmp_path: Path) -> Iterator[list[str]]:
    """Three images that only labels tell apart: ``tools-a``, ``tools-b``, and ``tools-ab`` with the labels of both."""
    assert busybox
    names = []
    for letters in ("a", "b", "ab"):
        labels = " ".join(f"tools.{letter}=1" for letter in letters)
        (tmp_path / letters).write_text(f"FROM busybox\nLABEL tools.filters={letters} {labels}\n")
        names.append(f"tools-{letters}")
        engine.tare("build", "-q", "-t", names[-1], "-f", str(tmp_path / letters), str(tmp_path))
    yield names
    engine.tare("rmi", "-f", *names)


def names_of(engine: EngineProcess, *filters: str) -> set[str]:
    options = [part for text in ("label=tools.filters", *filters) for part in ("--filter", text)]
    listings = {
        tuple(sorted(run("images", "--format", "{{.Repository}}", *options).stdout.decode().split()))
        for run in (engine.docker, engine.tare)
    }
    assert len(listings) == 1  # both clients list the same
    return set(listings.pop())


def test_images_are_listed_by_label_age_and_name(engine: EngineProcess, labelled: list[str]) -> None:
    assert names_of(engine) == set(labelled)
    assert names_of(engine, "label=tools.a") == {"tools-a", "tools-ab"}
    assert names_of(engine, "label=tools.a", "label=tools.b=1") == {"tools-ab"}
    assert names_of(engine, "until=24h") == set()
    assert names_of(engine, "until=2100-01-01") == set(labelled)
    assert names_of(engine, "reference=tools-?") == {"tools-a", "tools-b"}
    for run in (engine.docker, engine.tare):
        done = run("images", "--filter", "label!=tools.a", check=False)
        assert done.returncode == 1
        assert "invalid filter 'label!'" in done.stderr.decode()


@pytest.mark.parametrize("client", ["docker", "tare"])
def test_images_are_pruned_by_label_and_age(engine: EngineProcess, labelled: list[str], client: str) -> None:
    run = engine.docker if client == "docker" else engine.tare

    def prune(*filters: str, group: str = "image") -> str:
        options = [part for text in ("label=tools.filters", *filters) for part in ("--filter", text)]
        return run(group, "prune", "-af", *options).stdout.decode()

    assert "Deleted Images" not in prune("until=24h")
    assert names_of(engine) == set(labelled)
    assert "untagged: tools-b:latest" in prune("label!=tools.a", "until=2100-01-01")
    assert names_of(engine) == {"tools-a", "tools-ab"}
    assert "untagged: tools-ab:latest" in prune("label=tools.b", group="system")
    assert names_of(engine) == {"tools-a"}
    assert "busybox" in engine.docker("images", "--format", "{{.Repository}}").stdout.decode().split()


@pytest.mark.parametrize("client", ["docker", "tare"])
def test_prune_refuses_filters_and_removes_nothing(engine: EngineProcess, labelled: list[str], client: str) -> None:
    run = engine.docker if client == "docker" else engine.tare
    for arguments, words in (
        (("image", "prune", "-af", "--filter", "until=soon"), 'failed to parse value as time or duration: "soon"'),
        (("image", "prune", "-af", "--filter", "name=x"), "invalid filter 'name'"),
        (("image", "prune", "-af", "--filter", "until=1h", "--filter", "until=2h"), "more than one until filter"),
        (("system", "prune", "-af", "--volumes", "--filter", "until=1h"), '"until" filter is not supported with'),
    ):
        done = run(*arguments, check=False)
        assert done.returncode == 1
        assert words in done.stderr.decode()
    assert names_of(engine) == set(labelled)


def test_system_prune_says_what_it_is_limited_to(engine: EngineProcess) -> None:
    words = b"Items to be pruned will be filtered with:\n  - label=tools.none\n  - until=1h\n\nAre you sure you want"
    for run in (engine.docker, engine.tare):
        done = run("system", "prune", "--filter", "until=1h", "--filter", "label=tools.none", check=False)
        assert words in done.stdout
