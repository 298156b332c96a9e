"""``--why``: every class of input, changed alone, is the one cause that is named."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from build_bench import Bench
from build_parts import make_base

from tare.model import Reference

pytestmark = pytest.mark.root

TEXT = """\
FROM {base} AS build
ARG MODE
ENV LEVEL={level}
RUN {command}
FROM test.local/base:1 AS last
ARG PLACE=/in
COPY src /src/
USER {user}
COPY f $PLACE
WORKDIR {directory}
RUN --mount=type=bind,source=mounted,target=/m cat /m/a > seen
COPY --from=build /out /out
COPY <<EOF /doc
{document}
EOF
SHELL ["/bin/sh", "{shell}"]
RUN <<EOF
echo {script}
EOF
"""
WORDS = {
    "base": "test.local/base:1", "level": "1", "command": "echo out > /out", "user": "0",
    "directory": "/w", "document": "text", "shell": "-c", "script": "a",
}  # fmt: skip
RUN, MOUNTED = "RUN echo out > /out", "RUN --mount=type=bind,source=mounted,target=/m cat /m/a > seen"


@dataclass(frozen=True)
class Case:
    """A change: words of the Dockerfile, build arguments or a file; and the cause that it must be, in which step."""

    kind: str
    subject: str
    step: str
    words: dict[str, str] | None = None
    arguments: dict[str, str] | None = None
    file: str = ""
    mode: int = 0
    part: str = ""


CASES = {
    "path": Case("path", "src/a", "COPY src /src/", file="src/a", part="src/a changed"),
    "added path": Case("path", "src/new", "COPY src /src/", file="src/new", part="src/new (added)"),
    "mode": Case("path", "src/a", "COPY src /src/", file="src/a", mode=0o755, part="src/a (mode 0644 → 0755)"),
    "single file": Case("path", "f", "COPY f $PLACE", file="f"),
    "arg of run": Case("arg", "MODE", RUN, arguments={"MODE": "2"}, part="ARG MODE is new: 2"),
    "arg of copy": Case("arg", "PLACE", "COPY f $PLACE", arguments={"PLACE": "/else"}, part="/in → /else"),
    "env": Case("env", "LEVEL", RUN, words={"level": "2"}, part="ENV LEVEL changed: 1 → 2"),
    "base": Case("base", "test.local/base:2", RUN, words={"base": "test.local/base:2"}, part="base:1 → test.local"),
    "instruction": Case("instruction", "RUN echo > /out", "RUN echo > /out", words={"command": "echo > /out"}),
    "mount": Case("mount", "/m", MOUNTED, file="mounted/a", part="mounted at /m changed: mounted/a"),
    "directory": Case("instruction", "WORKDIR /v", "WORKDIR /v", words={"directory": "/v"}),
    "user": Case("user", "user", "WORKDIR /w", words={"user": "1500"}),
    "document": Case("instruction", "inline", "COPY <<EOF /doc", words={"document": "other"}),
    "script": Case("instruction", "here-document", "RUN <<EOF", words={"script": "b"}),
    "shell": Case("shell", "/bin/sh", "RUN <<EOF", words={"shell": "-ec"}),
}
CONSEQUENCES = {"parent", "source"}
ALSO_SEEN = {"user": {"user"}, "directory": {"directory"}, "arg of copy": {"arg"}, "shell": {"shell"}, "base": {"base"}}
"""What RUN steps see of the change, too: their user, their directory, their environment."""


def write(context: Path) -> None:
    for name in ("src", "mounted"):
        (context / name).mkdir()
        (context / name / "a").write_text("a\n")
    (context / "f").write_text("f\n")


@pytest.mark.parametrize("name", CASES)
async def test_the_input_that_changed_is_named(bench: Bench, name: str) -> None:
    case = CASES[name]
    write(bench.context)
    await make_base(bench.store, tag=Reference.parse("test.local/base:2"), note="2")
    await bench.build(TEXT.format(**WORDS), project="p")
    if case.mode:
        (bench.context / case.file).chmod(case.mode)
    elif case.file:
        (bench.context / case.file).write_text("changed\n")
    text = TEXT.format(**{**WORDS, **(case.words or {})})
    await bench.build(text, project="p", why=True, build_args=case.arguments or {})
    causes = bench.causes()
    own = causes.pop(case.step)
    assert [(cause.kind, cause.subject) for cause in own if cause.kind not in CONSEQUENCES] == [
        (case.kind, case.subject)
    ]
    assert case.part in own[0].text
    others = {cause.kind for found in causes.values() for cause in found}
    assert others <= CONSEQUENCES | ALSO_SEEN.get(name, set())


async def test_another_image_under_the_same_name_is_a_change_of_the_base(bench: Bench) -> None:
    await bench.build("FROM test.local/base:1\nRUN true\n", project="p")
    await make_base(bench.store, note="newer")
    await bench.build("FROM test.local/base:1\nRUN true\n", project="p", why=True)
    (cause,) = bench.causes()["RUN true"]
    assert (cause.kind, cause.subject) == ("base", "test.local/base:1")
    assert "other content than before" in cause.text


async def test_files_of_a_stage_are_named(bench: Bench) -> None:
    text = (
        "FROM test.local/base:1 AS b\nRUN mkdir /o; echo {0} > /o/x; echo same > /o/y\n"
        "FROM scratch\nCOPY --from=b /o /o\n"
    )
    await bench.build(text.format(1), project="p")
    await bench.build(text.format(2), project="p", why=True)
    (cause,) = bench.causes()["COPY --from=b /o /o"]
    assert (cause.kind, cause.subject, cause.text) == ("source", "b", "the output of b changed: o/x")


async def test_nothing_is_explained_where_nothing_runs(bench: Bench) -> None:
    write(bench.context)
    for _ in range(2):
        await bench.build(TEXT.format(**WORDS), project="p", why=True)
    assert bench.causes() == {}


async def test_a_first_build_is_called_so(bench: Bench) -> None:
    await bench.build("FROM test.local/base:1\nRUN true\n", project="p", why=True)
    (cause,) = bench.causes()["RUN true"]
    assert cause.kind == "new"
    assert "not built with this context before" in cause.text
    await bench.build("FROM test.local/base:1\nRUN true\nRUN echo\n", project="p", why=True)
    (cause,) = bench.causes()["RUN echo"]
    assert (cause.kind, cause.text) == ("new", "the instruction is new")


async def test_an_inserted_instruction_is_no_change_of_those_after_it(bench: Bench) -> None:
    await bench.build("FROM test.local/base:1\nRUN echo a\nRUN echo b\n", project="p")
    await bench.build("FROM test.local/base:1\nRUN echo new\nRUN echo a\nRUN echo b\n", project="p", why=True)
    found = {text: [cause.kind for cause in causes] for text, causes in bench.causes().items()}
    assert found == {"RUN echo new": ["new"], "RUN echo a": ["parent"], "RUN echo b": ["parent"]}


async def test_a_result_that_was_pruned_is_named(bench: Bench) -> None:
    text = "FROM test.local/base:1\nRUN echo a\n"
    await bench.build(text, project="p")
    await bench.store.db.write(lambda db: db.execute("DELETE FROM build_cache"))
    await bench.build(text, project="p", why=True)
    assert [cause.kind for cause in bench.causes()["RUN echo a"]] == ["removed"]


async def test_projects_do_not_mix(bench: Bench) -> None:
    await bench.build("FROM test.local/base:1\nRUN echo a\n", project="one")
    await bench.build("FROM test.local/base:1\nRUN echo b\n", project="two", why=True)
    assert [cause.kind for cause in bench.causes()["RUN echo b"]] == ["new"]
