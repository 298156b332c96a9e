"""``--plan``: what is foretold is what happens, over many random edits, and both are what a model of it says."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from build_bench import Bench
from build_parts import make_base

from tare.model import Reference

pytestmark = pytest.mark.root

EDITS = 100
OTHER = Reference.parse("test.local/base:2")
ARGUMENTS = ("TOOLS", "MODE")


@dataclass
class Project:
    """A context, the words of a Dockerfile that edits change, and build arguments."""

    base: str = "test.local/base:1"
    sources: dict[str, str] = field(default_factory=lambda: {"a.v": "value=1\n# note 1\n", "b.v": "value=2\n"})
    modes: dict[str, int] = field(default_factory=dict)
    config: str = "one\n"
    static: str = "page\n"
    ignored: str = "x"
    beside: str = "y"
    level: str = "1"
    label: str = "1"
    command: str = "true"
    arguments: dict[str, str | None] = field(default_factory=lambda: {"TOOLS": "1", "MODE": "fast"})

    def dockerfile(self) -> str:
        return f"""\
FROM test.local/base:1 AS tools
ARG TOOLS
RUN echo "tools $TOOLS" > /tools
FROM {self.base} AS build
COPY src /src
ARG MODE
RUN {self.command}; cat /src/*.v | while read line; do case $line in value=*) echo $line;; esac; done > /out
RUN --mount=type=bind,source=conf,target=/conf cat /conf/c > /conf.out
FROM test.local/base:1
ENV LEVEL={self.level}
WORKDIR /app
COPY --from=build /out /app/out
COPY --from=tools /tools /app/tools
COPY static /app/static
RUN --mount=type=bind,from=tools,source=/tools,target=/t cat /t > /seen
LABEL x={self.label}
RUN cat /app/out /app/tools > /all
"""

    def write(self, context: Path) -> None:
        for name in ("src", "conf"):
            (context / name).mkdir(exist_ok=True)
        for path in (context / "src").iterdir():
            path.unlink()
        for name, text in self.sources.items():
            (context / "src" / name).write_text(text)
            (context / "src" / name).chmod(self.modes.get(name, 0o644))
        (context / "conf" / "c").write_text(self.config)
        (context / "static").write_text(self.static)
        (context / "ignored.tmp").write_text(self.ignored)
        (context / "src" / "ignored.tmp").write_text(self.ignored)
        (context / "beside").write_text(self.beside)
        (context / ".dockerignore").write_text("**/*.tmp\n")


@dataclass
class Model:
    """What the fixture's steps depend on, said a second time; knows what was built."""

    seen: set[Any] = field(default_factory=set)
    layers: set[Any] = field(default_factory=set)

    def run(self, project: Project) -> list[bool]:
        """For each step that makes a layer, in order, whether it runs now."""
        ran: list[bool] = []

        def step(*key: Any) -> Any:
            ran.append(key not in self.seen)
            self.seen.add(key)
            return key

        def copy(parent: Any, *what: Any) -> Any:
            """Kept as a layer when it is the same again, whatever it stands on."""
            key = (parent, what)
            ran.append(key not in self.seen and what not in self.layers)
            self.seen.add(key)
            self.layers.add(what)
            return key

        arguments = project.arguments
        step("tools", arguments["TOOLS"])
        tools = f"tools {arguments['TOOLS'] or ''}"
        files = tuple(sorted((name, text, project.modes.get(name, 0o644)) for name, text in project.sources.items()))
        copied = copy(project.base, "src", files)
        lines = [line for name in sorted(project.sources) for line in project.sources[name].splitlines()]
        out = tuple(line for line in lines if line.startswith("value="))
        made = step(copied, project.command, arguments["MODE"])
        step(made, project.config)
        below: Any = step("workdir")
        below = copy(below, "out", out)
        below = copy(below, "tools", tools)
        below = copy(below, "static", project.static)
        below = step(below, "seen", tools, project.level)
        step(below, "all", project.level)
        return ran


def edit(project: Project, generator: random.Random, number: int) -> str:
    """Change one thing; returns what."""
    name = generator.choice(sorted(project.sources))

    def value() -> None:
        project.sources[name] = f"value={generator.randrange(4)}\n# note 1\n"

    def note() -> None:
        project.sources[name] = project.sources[name].splitlines()[0] + f"\n# note {number}\n"

    def mode() -> None:
        project.modes[name] = generator.choice([0o600, 0o644, 0o755])

    def add() -> None:
        project.sources[f"n{number}.v"] = "# nothing\n"

    def remove() -> None:
        if len(project.sources) > 1:
            del project.sources[name]

    def argument() -> None:
        project.arguments[generator.choice(ARGUMENTS)] = generator.choice(["1", "2", "3", "fast", None])

    def setting(attribute: str, *values: str) -> Callable[[], None]:
        return lambda: setattr(project, attribute, generator.choice(values))

    changes: dict[str, Callable[[], None]] = {
        "value": value,
        "note": note,
        "mode": mode,
        "add": add,
        "remove": remove,
        "argument": argument,
        "config": setting("config", "one\n", "two\n"),
        "static": setting("static", "page\n", "other\n"),
        "ignored": setting("ignored", str(number)),
        "beside": setting("beside", str(number)),
        "level": setting("level", "1", "2"),
        "label": setting("label", str(number)),
        "command": setting("command", "true", ":"),
        "base": setting("base", "test.local/base:1", "test.local/base:2"),
    }
    what = generator.choice(sorted(changes))
    changes[what]()
    return what


async def test_the_plan_is_what_then_runs(bench: Bench) -> None:
    await make_base(bench.store, tag=OTHER, note="another")
    generator, project, model = random.Random(3), Project(), Model()
    verdicts = {"run": 0, "cached": 0, "depends": 0}
    for number in range(EDITS):
        what = edit(project, generator, number) if number else "first"
        project.write(bench.context)
        text, options = project.dockerfile(), {"build_args": dict(project.arguments)}
        lines = [line for line in await bench.forecast(text, **options) if not line.text.startswith("FROM")]
        await bench.build(text, **options)
        expected = model.run(project)
        done = bench.done()
        for line, runs in zip(lines, expected, strict=True):
            verdicts[line.verdict] += 1
            place = f"edit {number} ({what}): {line.text}: {line.verdict} {line.causes}"
            assert done[line.text].cached is not runs, place
            if line.verdict == "depends":
                assert line.causes
                assert any(expected), place
            else:
                assert (line.verdict == "run") is runs, place
                assert bool(line.causes) is runs, place
        if not any(expected):
            assert all(line.verdict == "cached" for line in lines)
    assert min(verdicts.values()) > EDITS / 2, verdicts
    await bench.assert_nothing_left()


async def test_a_plan_runs_nothing_and_leaves_nothing(bench: Bench) -> None:
    lines = await bench.forecast("FROM test.local/base:1\nRUN exit 7\nCOPY . /x\n")
    assert [(line.verdict, line.line) for line in lines] == [("cached", 1), ("run", 2), ("run", 3)]
    assert bench.executor.commands == []
    await bench.assert_nothing_left()


async def test_what_needs_the_output_of_a_step_depends_on_it_by_name(bench: Bench) -> None:
    text = "FROM test.local/base:1 AS make\nRUN echo {0} > /out\nFROM scratch\nCOPY --from=make /out /out\n"
    await bench.build(text.format("one"))
    run, copy = [line for line in await bench.forecast(text.format("two")) if "FROM" not in line.name.split("]")[1]]
    assert (run.verdict, [cause.kind for cause in run.causes]) == ("run", ["instruction"])
    assert (copy.verdict, [(cause.kind, cause.subject) for cause in copy.causes]) == (
        "depends",
        [("output", "[make 2/2] RUN echo two > /out")],
    )


async def test_a_step_that_stages_share_is_planned_once(bench: Bench) -> None:
    text = "FROM test.local/base:1 AS {0}\nRUN touch /x\n"
    both = text.format("a") + text.format("b") + "FROM scratch\nCOPY --from=a /x /1\nCOPY --from=b /x /2\n"
    lines = [line for line in await bench.forecast(both) if line.text == "RUN touch /x"]
    assert [line.verdict for line in lines] == ["run", "cached"]
    await bench.build(both)
    assert sum(not event.cached for text, event in bench.done_all() if text == "RUN touch /x") == 1


@pytest.mark.parametrize("stages", [("build",), ("BUILD",)])
async def test_stages_are_run_anew_with_what_stands_on_them(bench: Bench, stages: tuple[str, ...]) -> None:
    counting = "RUN --mount=type=cache,target=/c echo once more >> /c/times; cat /c/times > /out"
    text = (
        "FROM test.local/base:1 AS other\nRUN echo o > /o\n"
        f"FROM test.local/base:1 AS build\n{counting}\nCOPY f /f\n"
        "FROM build AS more\nCOPY g /g\nRUN cp /out /copy\n"
        "FROM scratch\nCOPY --from=more /copy /copy\nCOPY --from=other /o /o\n"
    )
    for name in "fg":
        (bench.context / name).write_text(name)
    first = await bench.build(text)
    lines = await bench.forecast(text, no_cache_stages=stages)
    second = await bench.build(text, no_cache_stages=stages, why=True)
    ran = {name for name, event in bench.done().items() if not (event.cached or name.startswith("FROM"))}
    own = {counting, "COPY f /f", "RUN cp /out /copy"}
    assert ran == {*own, "COPY --from=more /copy /copy"}
    assert {line.text for line in lines if line.verdict == "run"} == own
    assert all(bench.causes()[text][0].kind == "no-cache" for text in own)
    assert await bench.content(first, "copy", 0) != await bench.content(second, "copy", 0)


async def test_an_unknown_stage_to_run_anew_is_told(bench: Bench) -> None:
    result = await bench.build("FROM test.local/base:1\n", no_cache_stages=("nosuch",))
    assert result.image_id
    assert any("nosuch" in text for text in bench.warnings())
