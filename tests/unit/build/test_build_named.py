"""Named contexts in the plan, and what they are opened as."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from build_planning import AMD64, image

from tare.build.dockerfile.stages import parse_dockerfile
from tare.build.graph import CopyStep, Plan, RunStep, SourceStep
from tare.build.named import Named, NamedContexts
from tare.build.ops.select import Tree
from tare.build.planner import Planner
from tare.build.request import BuildRequest
from tare.build.sources.fetcher import Sources
from tare.errors import InvalidArgument, NotFound, TareError, Unsupported
from tare.model import Platform, Reference
from tare.store.images import Image
from tare.store.store import Store

TREE = Tree(Path("/somewhere"), keep_owner=False)
IMAGE = image("named", env=["FROM=named"], on_build=["ENV TRIGGERED=yes"])


async def planned(text: str, named: dict[str, Named], target: str = "") -> Plan:
    opened: list[str] = []

    async def resolve(reference: Reference, platform: Platform) -> Image:
        if reference.familiar() != "base:latest":
            raise NotFound(f"No such image: {reference.familiar()}")
        return image("base", env=["FROM=base"])

    async def open_context(name: str, platform: Platform) -> Named:
        assert platform == AMD64
        opened.append(name)
        return named[name]

    contexts = dict.fromkeys(named, "anything")
    request = BuildRequest(context=None, dockerfile=text, platform=AMD64, contexts=contexts, target=target)
    found = await Planner(parse_dockerfile(text), request).plan(resolve, open_context)
    assert sorted(opened) == sorted(set(opened)), "a context is opened once"
    return found


@pytest.mark.parametrize("name", ["alpine", "alpine:latest", "docker.io/library/alpine"])
@pytest.mark.parametrize("base", ["alpine", "alpine:latest", "docker.io/alpine"])
async def test_an_image_in_place_of_a_base(name: str, base: str) -> None:
    found = await planned(f"FROM {base}\nENV A=b\n", {name: IMAGE})
    source = found.by_id["0.0"]
    assert isinstance(source, SourceStep) and source.image is IMAGE
    assert found.output.config.env == ["FROM=named", "TRIGGERED=yes", "A=b"]


async def test_another_tag_is_another_name() -> None:
    with pytest.raises(NotFound, match=r"alpine:3\.20"):
        await planned("FROM alpine:3.20\n", {"alpine": IMAGE})
    found = await planned("FROM alpine:3.20\n", {"alpine:3.20": IMAGE})
    assert found.output.config.env == ["FROM=named", "TRIGGERED=yes"]


async def test_files_in_place_of_a_base() -> None:
    found = await planned("FROM files\nRUN x\n", {"files": TREE})
    copy = found.by_id["0.0.context"]
    assert isinstance(copy, CopyStep)
    assert (copy.parent, copy.origin, copy.sources, copy.inputs) == ("0.0", "context:files", ("/",), ("0.0",))
    assert found.by_id["0.1"].parent == "0.0.context"
    assert [(item.id, item.name) for item in found.shown] == [
        ("0.0.context", "[1/2] FROM files"),
        ("0.1", "[2/2] RUN x"),
    ]
    assert next(item.created_by for item in found.output.history) == "[context files] load"


async def test_a_context_replaces_a_stage_with_all_that_it_needs() -> None:
    text = (
        "FROM missing AS lower\nRUN a\nFROM lower AS dep\nRUN b\nFROM base\nCOPY --from=dep /x /\nCOPY --from=1 /y /\n"
    )
    found = await planned(text, {"dep": IMAGE})
    assert [step.text for step in found.shown] == [
        "FROM lower AS dep",
        "FROM base",
        "COPY --from=dep /x /",
        "COPY --from=1 /y /",
    ]
    copies = [step for step in found.steps if isinstance(step, CopyStep)]
    assert {step.origin for step in copies} == {"1.0"}
    replaced = found.by_id["1.0"]
    assert isinstance(replaced, SourceStep) and replaced.image is IMAGE
    found = await planned(text, {"dep": TREE})
    assert {step.origin for step in found.steps if isinstance(step, CopyStep)} == {"1.0.context", "context:dep"}
    found = await planned(text, {"dep": IMAGE}, target="dep")
    assert found.output.config.env == ["FROM=named"] and len(found.steps) == 1


async def test_contexts_as_origins_of_files() -> None:
    text = (
        "FROM base\nCOPY --from=files /x /\nCOPY --from=docker.io/library/other:latest /y /\n"
        "RUN --mount=from=files,target=/m x\nCOPY --from=nothing /z /\n"
    )
    found = await planned(text, {"files": TREE, "other": IMAGE, "nothing": None})
    copies = [step for step in found.steps if isinstance(step, CopyStep)]
    run = next(step for step in found.steps if isinstance(step, RunStep))
    assert copies[0].origin == "context:files" and copies[0].inputs == ("0.0",)
    assert run.mounts[0].origin == "context:files" and run.inputs == (run.parent,)
    sources = [found.by_id[copy.origin] for copy in copies[1:]]
    assert [step.image for step in sources if isinstance(step, SourceStep)] == [IMAGE, None]


async def test_an_unused_context_is_not_opened() -> None:
    async def never(name: str, platform: Platform) -> Named:
        raise AssertionError(name)

    text = "FROM scratch AS used\nFROM scratch AS other\nCOPY --from=far /x /\n"
    request = BuildRequest(context=None, dockerfile=text, target="used", contexts={"far": "/x"}, platform=AMD64)

    async def resolve(reference: Reference, platform: Platform) -> Image:
        raise AssertionError(reference)

    assert len((await Planner(parse_dockerfile(text), request).plan(resolve, never)).steps) == 1


async def test_reserved_names_mean_themselves() -> None:
    found = await planned("FROM scratch\n", {"base": IMAGE})
    assert found.output.config.env == ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]
    for name in ("scratch", "context", "A/", "a b"):
        with pytest.raises(InvalidArgument, match=f"invalid context name {name}"):
            await planned("FROM scratch\n", {name: IMAGE})


async def opened(tmp_path: Path, value: str) -> tuple[Named, NamedContexts]:
    async def resolve(reference: Reference, platform: Platform) -> Image:
        return image(reference.familiar())

    async def protect(image: Image) -> None:
        raise AssertionError("only images of layouts are protected here")

    store = await Store.open(tmp_path / "store")
    try:
        async with AsyncExitStack() as stack, store.leases.hold() as lease:
            named = NamedContexts(
                request=BuildRequest(context=None, dockerfile="", contexts={"name": value}),
                sources=Sources(tmp_path / "sources"),
                store=store,
                resolve=resolve,
                protect=protect,
                stack=stack,
                lease=lease,
            )
            return await named.open("name", AMD64), named
    finally:
        await store.close()


async def test_directories_with_their_ignore_file(tmp_path: Path) -> None:
    place = tmp_path / "files"
    place.mkdir()
    for name in ("kept", "left", "Dockerfile"):
        (place / name).touch()
    (place / ".dockerignore").write_text("left\n")
    found, named = await opened(tmp_path, str(place))
    assert isinstance(found, Tree) and named.trees == {"context:name": found}
    names = {item.rel for match in found.select(["/"]) for item in match.items}
    assert names == {"", ".dockerignore", "Dockerfile", "kept"}


async def test_images(tmp_path: Path) -> None:
    found, _ = await opened(tmp_path, "docker-image://alpine:3")
    assert isinstance(found, Image) and found.id == image("alpine:3").id
    assert (await opened(tmp_path, "docker-image://scratch"))[0] is None


@pytest.mark.parametrize(
    ("value", "kind", "message"),
    [
        ("/nowhere/at/all", NotFound, "/nowhere/at/all: no such directory"),
        ("/etc/passwd", InvalidArgument, "/etc/passwd is not a directory"),
        ("relative", InvalidArgument, "expected an absolute directory"),
        ("docker-image://UPPER", InvalidArgument, "invalid reference format"),
        ("target:other", Unsupported, "unsupported context source target:other"),
        ("file:///x", Unsupported, "unsupported context source file:///x"),
        ("ftp://u:p@h/x", Unsupported, "unsupported context source ftp://xxxxx:xxxxx@h/x"),
        ("https://h/r.git#-x", InvalidArgument, "invalid ref '-x'"),
        ("oci-layout://relative", InvalidArgument, "expected an absolute directory"),
        ("oci-layout:///nowhere", NotFound, "index.json: No such file"),
        ("oci-layout:///x@sha256:00", InvalidArgument, "digest"),
    ],
)
async def test_bad_values(tmp_path: Path, value: str, kind: type[TareError], message: str) -> None:
    with pytest.raises(kind) as caught:
        await opened(tmp_path, value)
    assert caught.value.message.startswith("failed to get build context name: ")
    assert message in str(caught.value)
