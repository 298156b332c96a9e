"""COPY: where files land, with which attributes, and when the layer is made anew."""

from __future__ import annotations

from pathlib import Path

import pytest
from build_bench import Bench

from tare.errors import NotFound, TareError

pytestmark = pytest.mark.root

FROM = "FROM test.local/base:1\n"


def tree(root: Path) -> None:
    (root / "x/y/z").mkdir(parents=True)
    (root / "x/y/a.txt").write_text("a")
    (root / "x/y/z/b.txt").write_text("b")
    (root / "x/y/z/b.txt").chmod(0o4755)
    (root / "x/y").chmod(0o700)
    (root / "x/readme.md").write_text("r")


async def paths(bench: Bench, line: str) -> set[str]:
    """Names of files in the layer that ``line`` makes."""
    layer = await bench.layer(await bench.build(f"{FROM}{line}\n"))
    return {name for name, member in layer.items() if member.isfile()}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("COPY --parents x/y/a.txt /p/", {"p/x/y/a.txt"}),
        ("COPY --parents ./x/y/a.txt ./x/readme.md /p/", {"p/x/y/a.txt", "p/x/readme.md"}),
        ("COPY --parents x/./y/*.txt /p/", {"p/y/a.txt"}),
        ("COPY --parents x/**/*.txt /p/", {"p/x/y/a.txt", "p/x/y/z/b.txt"}),
        ("COPY --parents x/./**/*.txt /p/", {"p/y/a.txt", "p/y/z/b.txt"}),
        ("COPY --parents ** /p/", {"p/x/y/a.txt", "p/x/y/z/b.txt", "p/x/readme.md"}),
        ("COPY --parents x/y/z /p/", {"p/x/y/z/b.txt"}),
        ("COPY --parents x/y/ /p/", {"p/x/y/a.txt", "p/x/y/z/b.txt"}),
        ("COPY --parents --exclude=**/z x /p/", {"p/x/y/a.txt", "p/x/readme.md"}),
        ("COPY x/**/*.txt /p/", {"p/a.txt"}),
        ("COPY --exclude=**/*.txt --exclude=x/y/z x /p/", {"p/readme.md"}),
    ],
)
async def test_which_files_and_where(bench: Bench, line: str, expected: set[str]) -> None:
    tree(bench.context)
    found = await paths(bench, line)
    assert {name for name in found if not name.endswith("Dockerfile")} == expected


async def test_parents_keep_the_attributes_of_their_directories(bench: Bench) -> None:
    tree(bench.context)
    layer = await bench.layer(await bench.build(f"{FROM}COPY --parents x/y/a.txt /p/\n"))
    assert (layer["p"].mode, layer["p/x"].mode, layer["p/x/y"].mode) == (0o755, 0o755, 0o700)


async def test_parents_of_a_stage(bench: Bench) -> None:
    text = f"{FROM}RUN mkdir -p /a/b && echo 1 > /a/b/c\nFROM scratch\nCOPY --parents --from=0 /a/./b/c /out/\n"
    assert "out/b/c" in await bench.layer(await bench.build(text))


async def test_parents_of_nothing(bench: Bench) -> None:
    with pytest.raises(NotFound, match="not found in the build context"):
        await bench.build(f"{FROM}COPY --parents x/none /p/\n")


async def test_modes_of_what_is_made_and_what_is_copied(bench: Bench) -> None:
    tree(bench.context)
    modes = {
        "COPY x/y /d/": {"d": 0o755, "d/z": 0o755, "d/a.txt": 0o644, "d/z/b.txt": 0o4755},
        "COPY --chmod=0640 x/y /d/": {"d": 0o640, "d/z": 0o640, "d/a.txt": 0o640, "d/z/b.txt": 0o640},
        "COPY --chmod=a=rX x/y /d/": {"d": 0o755, "d/z": 0o555, "d/a.txt": 0o444, "d/z/b.txt": 0o555},
        "COPY --chmod=02755 x/y/a.txt /d/": {"d": 0o755, "d/a.txt": 0o2755},
    }
    for line, expected in modes.items():
        layer = await bench.layer(await bench.build(f"{FROM}{line}\n"))
        assert {name: layer[name].mode for name in expected} == expected, line


@pytest.mark.parametrize("mode", ["u+q", "9", "777777"])
async def test_a_mode_that_is_none(bench: Bench, mode: str) -> None:
    (bench.context / "f").touch()
    with pytest.raises(TareError, match="invalid chmod parameter") as caught:
        await bench.build(f"{FROM}COPY --chmod={mode} f /\n")
    assert "Dockerfile:2" in str(caught.value)


@pytest.mark.parametrize("flag", ["", "--link "])
async def test_a_new_base_keeps_the_layer(bench: Bench, flag: str) -> None:
    (bench.context / "f").write_text("1")
    text = f"{FROM}COPY {flag}f /srv/f\n"
    first = await bench.image(await bench.build(text))
    changed = f"{FROM}RUN echo new > /etc/changed\nCOPY {flag}f /srv/f\n"
    second = await bench.image(await bench.build(changed))
    assert bench.done()[f"COPY {flag}f /srv/f"].cached
    assert second.diff_ids[-1] == first.diff_ids[-1]


async def test_a_base_whose_directories_differ_gets_a_layer_of_its_own(bench: Bench) -> None:
    (bench.context / "f").write_text("1")
    await bench.build(f"{FROM}COPY f /etc/f\n")
    layer = await bench.layer(await bench.build(f"{FROM}RUN chmod 700 /etc\nCOPY f /etc/f\n"))
    assert layer["etc"].mode == 0o700
    assert not bench.done()["COPY f /etc/f"].cached


async def test_no_cache_does_not_look_for_layers(bench: Bench) -> None:
    (bench.context / "f").write_text("1")
    await bench.build(f"{FROM}COPY f /f\n")
    await bench.build(f"{FROM}COPY f /f\n", no_cache=True)
    assert not bench.done()["COPY f /f"].cached
