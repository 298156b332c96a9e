"""Declarative files as stages: alone, under and beside Dockerfiles; packages are asked for, not assembled, here."""

from __future__ import annotations

import datetime
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from build_planning import AMD64, image

from tare.build.assembly.document import read_document
from tare.build.assembly.including import Documents
from tare.build.assembly.lockfile import write_lock
from tare.build.assembly.lowering import quote
from tare.build.checking import report_of
from tare.build.checks.findings import CheckReport
from tare.build.dockerfile.expansion import expand
from tare.build.dockerfile.stages import parse_dockerfile
from tare.build.graph import CopyStep, Plan, WorkdirStep
from tare.build.named import NamedContexts
from tare.build.planner import Planner
from tare.build.request import BuildRequest
from tare.errors import InvalidArgument, NotFound, TareError, Unsupported
from tare.model import Platform, Reference
from tare.model.assembly import Assembly, Pin
from tare.store.images import Image

BUILT = 1_700_000_000
LIBC = Pin(name="libc6", version="2.36-9", architecture="amd64", sha256="ab" * 32, size=9)


class Asked:
    """What was asked of the assembler; the errors that it shall give."""

    def __init__(self) -> None:
        self.assemblies: list[tuple[Assembly, Platform]] = []
        self.error: TareError | None = None

    async def assemble(self, assembly: Assembly, platform: Platform) -> tuple[Image, tuple[Pin, ...]]:
        self.assemblies.append((assembly, platform))
        if self.error is not None:
            raise self.error
        made = image(f"{assembly.base} {len(assembly.packages)}", env=["PATH=/bin"], entrypoint=["/base"])
        built = BUILT if assembly.epoch is None else assembly.epoch
        stamp = datetime.datetime.fromtimestamp(built, datetime.UTC).isoformat()
        return replace(made, config=msgspec.structs.replace(made.config, created=stamp)), (LIBC,)


@pytest.fixture
def asked() -> Asked:
    return Asked()


async def resolve(reference: Reference, platform: Platform) -> Image:
    if reference.familiar() != "tools:latest":
        raise NotFound(f"No such image: {reference.familiar()}")
    return image("tools", env=["PATH=/bin"])


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


async def plan(root: Path, name: str, asked: Asked, **options: Any) -> tuple[Plan, Documents]:
    text = (root / name).read_text()
    options.setdefault("platform", AMD64)
    request = BuildRequest(context=root, dockerfile=text, dockerfile_name=name, **options)
    async with AsyncExitStack() as stack:
        named = NamedContexts(
            request=request, sources=None, store=None, resolve=resolve, protect=None, stack=stack, lease=""  # type: ignore[arg-type]
        )  # fmt: skip
        documents = Documents(
            request=request, named=named, resolve=resolve, assemble=asked.assemble, observe=lambda _: None
        )
        if request.is_declarative:
            planner, opened = await documents.main()
            return await planner.plan(resolve, opened), documents
        return await Planner(parse_dockerfile(text), request).plan(resolve, documents.open), documents


def shown(found: Plan) -> list[str]:
    return [step.name for step in found.shown]


async def test_a_file_is_a_stage_on_its_packages(tmp_path: Path, asked: Asked) -> None:
    text = """\
base: cc
packages: [curl, libpq5=15]
files:
- {source: "a b", target: /app/, owner: app, mode: u+x}
- {content: "x $HOME\\n", target: /etc/app.conf}
user: app
entrypoint: [/app/run, "$X"]
env: {A: "$HOME 'x' \\"y\\" \\\\"}
labels: {k: v}
ports: [80-81/udp]
volumes: [/data]
stop-signal: SIGINT
healthcheck: {test: [/c], interval: 2s}
"""
    write(tmp_path, {"My.yaml": text})
    found, _ = await plan(tmp_path, "My.yaml", asked, labels={"z": "1"})
    assert shown(found) == [
        "[my.yaml 1/4] ASSEMBLE cc curl libpq5=15",
        "[my.yaml] USER app",
        "[my.yaml 2/4] MKDIR /data",
        "[my.yaml 3/4] COPY --chown=app --chmod=u+x a b /app/",
        "[my.yaml 4/4] COPY <<app.conf /etc/app.conf",
        "[my.yaml] WORKDIR /",
        "[my.yaml] ENV A=$HOME 'x' \"y\" \\",
        "[my.yaml] LABEL k=v",
        "[my.yaml] EXPOSE 80-81/udp",
        "[my.yaml] VOLUME /data",
        "[my.yaml] STOPSIGNAL SIGINT",
        "[my.yaml] HEALTHCHECK /c",
        "[my.yaml] ENTRYPOINT /app/run $X",
    ]
    config = found.output.config
    assert config.env == ["PATH=/bin", "A=$HOME 'x' \"y\" \\"]
    assert (config.user, config.entrypoint, config.cmd) == ("app", ["/app/run", "$X"], None)
    assert (config.working_dir, config.stop_signal, config.labels) == ("/", "SIGINT", {"k": "v", "z": "1"})
    assert config.exposed_ports == {"80/udp": {}, "81/udp": {}}
    assert config.healthcheck is not None
    assert (config.healthcheck.test, config.healthcheck.interval) == (["CMD", "/c"], 2 * 10**9)
    copies = [step for step in found.steps if isinstance(step, CopyStep)]
    assert copies[0].sources == ("a b",)
    assert copies[1].inline[0].content == "x $HOME\n"
    assert [step.user for step in found.steps if isinstance(step, WorkdirStep)] == ["app"]
    assert [(step.place.source.name, step.place.range.first_line) for step in copies] == [
        ("My.yaml", 4),
        ("My.yaml", 5),
    ]
    assembly, platform = asked.assemblies[0]
    assert ([wish.name for wish in assembly.packages], platform) == (["curl", "libpq5"], AMD64)


@pytest.mark.parametrize("text", ["", "a b", "$HOME ${X}", 'it\'s "x" \\ \t\n', "`$`"])
def test_quoted_text_stands_for_itself(text: str) -> None:
    assert expand(quote(text), {"HOME": "wrong", "X": "wrong"}) == text


async def test_stages_of_a_dockerfile_are_built_where_they_are_used(tmp_path: Path, asked: Asked) -> None:
    dockerfile = """\
FROM tools AS build
ARG LEVEL
RUN make $LEVEL
FROM tools AS unused
RUN false
FROM ./distroless.yaml AS final
ENV B=1
"""
    text = """\
dockerfile: Dockerfile
files:
- {from: Build, source: /a, target: /a}
- {from: tools, source: /b, target: /b}
- {from: "0", source: /c, target: /c}
"""
    write(tmp_path, {"Dockerfile": dockerfile, "distroless.yaml": text})
    found, _ = await plan(tmp_path, "distroless.yaml", asked, build_args={"LEVEL": "2", "OTHER": "x"})
    names = shown(found)
    assert names[:3] == ["[build 1/2] FROM tools AS build", "[build] ARG LEVEL", "[build 2/2] RUN make $LEVEL"]
    assert not [name for name in names if "unused" in name or "final" in name]
    copies = [step for step in found.steps if isinstance(step, CopyStep)]
    assert copies[0].origin == copies[2].origin == "Dockerfile:0.2"
    assert found.warnings == ("[Warning] One or more build-args [OTHER] were not consumed",)
    places = [step.id for step in found.steps]
    assert all(places.index(name) < places.index(step.id) for step in found.steps for name in step.inputs)

    found, _ = await plan(tmp_path, "Dockerfile", asked)
    assert shown(found)[-2:] == ["[final 1/1] FROM ./distroless.yaml AS final", "[final] ENV B=1"]
    assert found.output.config.user == "65532"
    assert found.output.config.env == ["PATH=/bin", "B=1"]

    found, _ = await plan(tmp_path, "distroless.yaml", asked, target="build")
    assert shown(found) == ["[build 1/2] FROM tools AS build", "[build] ARG LEVEL", "[build 2/2] RUN make $LEVEL"]
    with pytest.raises(NotFound, match='"ghost" could not be found') as caught:
        await plan(tmp_path, "distroless.yaml", asked, target="ghost")
    assert caught.value.hint == "stages are distroless.yaml, build, unused, final"


async def test_named_contexts_bring_their_own_files(tmp_path: Path, asked: Asked) -> None:
    write(
        tmp_path,
        {
            "here/Dockerfile": "FROM rt AS one\nFROM scratch\nCOPY --from=rt /own /own\nCOPY --from=one /own /own\n",
            "there/rt.yaml": "dockerfile: D\nfiles: [{source: own, target: /own}, {from: b, source: /x, target: /x}]\n",
            "there/D": "FROM tools AS b\nCOPY own /x\nRUN --mount=target=/m true\n",
            "there/own": "",
        },
    )
    found, documents = await plan(
        tmp_path / "here", "Dockerfile", asked, contexts={"rt": str(tmp_path / "there/rt.yaml")}
    )
    assert documents.named.trees["context:rt"].root == tmp_path / "there"
    assert {step.text: step.origin for step in found.steps if isinstance(step, CopyStep)} == {
        "COPY own /x": "context:rt",
        "COPY own /own": "context:rt",
        "COPY --from=b /x /x": "rt:rt.yaml:linux/amd64:D:0.2",
        "COPY --from=rt /own /own": "rt:rt.yaml:linux/amd64:0.3",
        "COPY --from=one /own /own": "rt:rt.yaml:linux/amd64:0.3",
    }
    assert len(asked.assemblies) == 1


@pytest.mark.parametrize(
    ("files", "error", "cause"),
    [
        ({"Dockerfile": "FROM ./no.yaml\n"}, NotFound, "no.yaml: not found in the build context\nDockerfile:1\n"),
        (
            {"Dockerfile": "FROM scratch\nCOPY --from=../a/no.yml a b\n"},
            NotFound,
            "a/no.yml: not found in the build context\nDockerfile:2\n",
        ),
        (
            {"Dockerfile": "FROM ./a.yaml\n", "a.yaml": "dockerfile: nope\n"},
            NotFound,
            "nope: not found in the build context\na.yaml:1\n",
        ),
        (
            {"Dockerfile": "FROM ./a.yaml\n", "a.yaml": "files: [{from: ./b.yaml, source: /x, target: /x}]\n",
             "b.yaml": "files: [{from: ./a.yaml, source: /x, target: /x}]\n"},
            InvalidArgument,
            "circular dependency of declarative files: a.yaml needs b.yaml needs a.yaml",
        ),
        (
            {"Dockerfile": "FROM ./a.yaml AS x\n", "a.yaml": "dockerfile: Dockerfile\n"
             "files: [{from: x, source: /x, target: /x}]\n"},
            InvalidArgument,
            "circular dependency of declarative files: a.yaml needs a.yaml",
        ),
        (
            {"Dockerfile": "FROM ./a.yaml\n", "a.yaml": "files: [{from: 3, source: /x, target: /x}]\n"},
            InvalidArgument,
            "a.yaml: from 3: there is no dockerfile",
        ),
        (
            {"Dockerfile": "FROM ./a.yaml\n", "a.yaml": "files: [{from: ghost, source: /x, target: /x}]\n"},
            NotFound,
            "ghost:latest: No such image: ghost:latest\na.yaml:1\n",
        ),
        (
            {"Dockerfile": "FROM ./a.yaml\n", "a.yaml": "ports: [x]\n"},
            InvalidArgument,
            "a.yaml: invalid containerPort: x",
        ),
        (
            {"Dockerfile": "FROM ./a.yaml\n", "a.yaml": "\nstop-signal: SIGNOPE\n"},
            InvalidArgument,
            "a.yaml: ",
        ),
        (
            {"Dockerfile": "FROM ./a.yaml\n", "a.yaml": "architectures:\n- arm64\n"},
            Unsupported,
            "a.yaml is not for linux/amd64, but for arm64\na.yaml:1\n",
        ),
    ],
)  # fmt: skip
async def test_what_cannot_be_planned(
    tmp_path: Path, asked: Asked, files: dict[str, str], error: type[TareError], cause: str
) -> None:
    write(tmp_path, files)
    with pytest.raises(error) as caught:
        await plan(tmp_path, "Dockerfile", asked)
    assert caught.value.message.startswith(cause)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (NotFound("package libpq6 is not in the archive", code="package-unknown"), 4),
        (NotFound("package curl has no slice bin", code="slice-unknown"), 7),
        (NotFound("slice own of zlib1g 1.2 is empty", code="slice-empty"), 10),
        (NotFound("No such image: cd", code="catalogue-unknown"), 2),
        (Unsupported("the mirror is away"), 3),
    ],
)
async def test_errors_of_the_assembler_have_a_place(tmp_path: Path, asked: Asked, error: TareError, line: int) -> None:
    packages = "packages:\n- libpq6=15\n- libpq5\n- name: curl\n  slices: [bin]\n"
    text = f"# x\nbase: cd\n{packages}slices:\n  zlib1g:\n    own: [/x]\n"
    write(tmp_path, {"a.yaml": text})
    asked.error = error
    with pytest.raises(type(error)) as caught:
        await plan(tmp_path, "a.yaml", asked)
    assert f"\na.yaml:{line}\n" in caught.value.message
    assert caught.value.code == error.code


@pytest.mark.parametrize(("epoch", "asked_for"), [(BUILT - 1, [None, BUILT - 1]), (BUILT, [None]), (BUILT + 1, [None])])
async def test_an_epoch_bounds_packages_that_are_newer(
    tmp_path: Path, asked: Asked, epoch: int, asked_for: list[int | None]
) -> None:
    write(tmp_path, {"a.yaml": "base: static\n"})
    await plan(tmp_path, "a.yaml", asked, build_args={"SOURCE_DATE_EPOCH": str(epoch)})
    assert [item.epoch for item, _ in asked.assemblies] == asked_for
    assert [item.pins for item, _ in asked.assemblies] == [None, (LIBC,)][: len(asked_for)]


async def test_one_lock_for_all_platforms_of_a_build(tmp_path: Path, asked: Asked) -> None:
    dockerfile = "FROM --platform=linux/arm64 ./a.yaml AS arm\nFROM ./a.yaml\nCOPY --from=arm /x /x\n"
    write(tmp_path, {"a.yaml": "base: static\n", "Dockerfile": dockerfile})
    _, documents = await plan(tmp_path, "Dockerfile", asked, update_lock=True)
    (update,) = documents.locks.values()
    assert sorted(update.pins) == ["amd64", "arm64"]
    assert (update.file, update.beside) == ("a.lock", False)
    assert "\n  amd64:\n" in update.text and "\n  arm64:\n" in update.text


async def test_checking_reads_all_files_and_asks_nobody(tmp_path: Path) -> None:
    async def report(**options: Any) -> CheckReport:
        text = (tmp_path / "a.yaml").read_text()
        request = BuildRequest(context=tmp_path, dockerfile=text, dockerfile_name="a.yaml", **options)
        return await report_of(request, None)  # type: ignore[arg-type]

    files = "files: [{from: b, source: /x, target: /x}]\n"
    write(tmp_path, {"a.yaml": f"dockerfile: D\n{files}", "D": "FROM x as b\nRUN y\n"})
    found = await report()
    assert ([finding.rule for finding in found.findings], found.error) == (["FromAsCasing"], None)
    document = read_document((tmp_path / "a.yaml").read_text(), "a.yaml").document
    write(tmp_path, {"a.lock": write_lock(document, {"amd64": (LIBC,)})})
    assert (await report()).error is None
    for change, cause in (
        ({"a.yaml": "packages: [curl]\n"}, "a.lock was made for another a.yaml: curl came to packages later"),
        ({"a.lock": "x\n"}, "a.lock: expected a mapping"),
        ({"a.yaml": "dockerfile: none\n"}, "none: not found in the build context"),
        ({"a.yaml": "dockerfile: D\nfiles: [{from: 4, source: /x, target: /x}]\n"}, "from 4: D has no such stage"),
        ({"a.yaml": "base: [x]\n"}, "a.yaml: expected text, not a list"),
    ):
        write(tmp_path, change)
        error = (await report()).error
        assert error is not None and cause in error.message


async def test_a_lock_pins_and_is_written_anew(tmp_path: Path, asked: Asked) -> None:
    write(tmp_path, {"a.yaml": "architectures: [amd64, arm64]\n"})
    _, documents = await plan(tmp_path, "a.yaml", asked, update_lock=True)
    assert [(item.pins, str(platform)) for item, platform in asked.assemblies] == [
        (None, "linux/amd64"),
        (None, "linux/arm64"),
    ]
    (update,) = documents.locks.values()
    assert (update.file, update.context, update.beside, len(update.changes)) == ("a.lock", "", True, 2)
    (tmp_path / "a.lock").write_text(update.text)
    asked.assemblies.clear()
    _, documents = await plan(tmp_path, "a.yaml", asked)
    assert [item.pins for item, _ in asked.assemblies] == [(LIBC,)]
    assert (documents.locks, documents.built) == ({}, BUILT)

    asked.error = NotFound("libc6 2.36-9 is pinned, but nowhere", code="pin-gone")
    with pytest.raises(NotFound, match=r"a\.lock:10\n") as caught:
        await plan(tmp_path, "a.yaml", asked)
    assert caught.value.code == "pin-gone"
    asked.error = None

    (tmp_path / "a.lock").write_text("damaged\n")
    with pytest.raises(InvalidArgument, match=r"^a\.lock: ") as damaged:
        await plan(tmp_path, "a.yaml", asked)
    assert damaged.value.code == "lock-invalid"
    _, documents = await plan(tmp_path, "a.yaml", asked, update_lock=True)
    assert [lock.text for lock in documents.locks.values()] == [update.text]
    (tmp_path / "a.lock").unlink()
    _, documents = await plan(tmp_path, "a.yaml", asked, lock_text=replace(update).text)
    assert asked.assemblies[-1][0].pins == (LIBC,)
    (tmp_path / "a.lock").write_text("not for a file that says what its lock is\n")
    await plan(tmp_path, "a.yaml", asked, lock_text="")
    assert asked.assemblies[-1][0].pins is None
