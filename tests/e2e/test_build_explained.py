"""``tare build`` as people type it: ``--plan``, ``--why``, ``--budget``, ``--no-cache-filter`` and the weigh-in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine_process import EngineProcess

pytestmark = [pytest.mark.root, pytest.mark.e2e]

DOCKERFILE = """\
FROM busybox AS build
COPY src /src
RUN cat /src/* > /out
FROM busybox
COPY --from=build /out /out
RUN rm /out
"""


@pytest.fixture
def context(tmp_path: Path) -> Path:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "main.c").write_text("int main;\n" * 200_000)
    (tmp_path / "Dockerfile").write_text(DOCKERFILE)
    return tmp_path


def test_plan_then_why_tell_the_file_that_changed(engine: EngineProcess, busybox: str, context: Path) -> None:
    engine.tare("build", "--no-cache", str(context))
    plan = engine.tare("build", "--plan", str(context)).stdout.decode()
    assert plan.splitlines()[0] == "plan: 0 to run, 6 cached"
    (context / "src" / "main.c").write_text("int other;\n" * 200_000)
    plan = engine.tare("build", "--plan", str(context)).stdout.decode()
    assert plan.splitlines()[0] == "plan: 2 to run, 2 cached, 2 depending on output that is yet to come"
    assert "    run      [build 2/3] COPY src /src\n             src/main.c changed\n" in plan
    assert "it runs if the output of [build 3/3] RUN cat /src/* > /out changes" in plan
    said = engine.tare("build", "--why", str(context)).stderr.decode()
    assert "  [build 2/3] COPY src /src\n      src/main.c changed\n" in said
    assert "  [stage-1 2/3] COPY --from=build /out /out\n      the output of build changed: out\n" in said
    said = engine.tare("build", "--why", str(context)).stderr.decode()
    assert "nothing ran: every step was cached" in said


def test_stages_can_be_run_anew(engine: EngineProcess, busybox: str, context: Path) -> None:
    engine.tare("build", str(context))
    said = engine.tare("build", "--why", "--no-cache-filter", "build,nosuch", str(context)).stderr.decode()
    assert "  [build 3/3] RUN cat /src/* > /out\n      caching is turned off for it" in said
    assert "[stage-1" not in said.partition("why these steps ran")[2].partition("image sha256")[0]
    assert "--no-cache-filter nosuch: the build has no such stage" in said


def test_the_weigh_in_tells_what_is_written_twice(engine: EngineProcess, busybox: str, context: Path) -> None:
    lines = engine.tare("build", str(context)).stderr.decode().splitlines()
    head = lines.index("              shipped   left behind   written twice")
    rows = {line.split()[0]: line.split()[1:] for line in lines[head + 1 : head + 4]}
    assert rows["build"][0] == "0B"
    assert rows["stage-1"][1:] == ["0B", "2MB"]
    assert any(line.split()[1:3] == ["Dockerfile:6", "RUN"] and "2MB" in line for line in lines)


def test_a_budget_fails_the_build_and_names_the_lines(engine: EngineProcess, busybox: str, context: Path) -> None:
    done = engine.tare("build", "-t", "too-heavy", "--budget", "2.5MB", str(context), check=False)
    assert done.returncode == 1
    said = done.stderr.decode()
    assert "more than the budget of 2.5 MB" in said
    assert "Dockerfile:4  FROM busybox" in said
    assert "2.0 MB  Dockerfile:5  COPY --from=build /out /out" in said
    assert engine.docker("image", "inspect", "too-heavy", check=False).returncode == 1
    assert engine.tare("build", "-t", "light", "--budget", "50MB", str(context)).returncode == 0
    engine.docker("rmi", "light")
    assert engine.tare("build", "--budget", "heavy", str(context), check=False).returncode == 1


def test_a_plan_of_what_cannot_be_built_says_why(engine: EngineProcess, busybox: str, context: Path) -> None:
    (context / "Dockerfile").write_text("FROM busybox\nCOPY nosuch /x\n")
    done = engine.tare("build", "--plan", str(context), check=False)
    assert done.returncode == 1
    assert '"/nosuch": not found in the build context' in done.stderr.decode()
    assert json.loads(engine.docker("image", "inspect", "busybox").stdout)
