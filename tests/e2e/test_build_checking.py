"""Checks, context listings and views of ``tare build`` against a real engine."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from engine_process import Completed, EngineProcess

pytestmark = [pytest.mark.root, pytest.mark.e2e]

SMELLY = "FROM busybox AS Build\nENV old style\nRUN echo built\nCMD run\n"
FINDINGS = [
    "StageNameCasing: Stage name 'Build' should be lowercase (line 1)",
    'LegacyKeyValueFormat: "ENV key=value" should be used instead of legacy "ENV key value" format (line 2)',
    "JSONArgsRecommended: JSON arguments recommended for CMD to prevent unintended behavior related to OS signals"
    " (line 4)",
]


@pytest.fixture
def context(tmp_path: Path) -> Path:
    directory = tmp_path / "context"
    (directory / "node_modules").mkdir(parents=True)
    (directory / "node_modules" / "x").write_text("x")
    (directory / "page").write_text("page\n")
    (directory / ".dockerignore").write_text("node_modules\n")
    return directory


def build(host: EngineProcess, context: Path, text: str, *options: str, **environ: str) -> Completed:
    (context / "Dockerfile").write_text(text)
    return host.tare("build", *options, str(context), check=False, environ=environ)


def test_check_builds_nothing(host: EngineProcess, context: Path) -> None:
    before = host.text("images", "-aq", "--no-trunc")
    done = build(host, context, SMELLY, "--check", "--iidfile", str(context / "iid"))
    assert done.returncode == 1
    assert done.stderr == b""
    shown = done.stdout.decode().split("\n\n")
    assert shown[0] == "Check complete, 3 warnings have been found!"
    assert shown[2] == (
        "WARNING: LegacyKeyValueFormat - https://docs.docker.com/go/dockerfile/rule/legacy-key-value-format/\n"
        '"ENV key=value" should be used instead of legacy "ENV key value" format\n'
        "Dockerfile:2\n--------------------\n   1 |     FROM busybox AS Build\n   2 | >>> ENV old style\n"
        "   3 |     RUN echo built\n   4 |     CMD run\n--------------------"
    )
    assert host.text("images", "-aq", "--no-trunc") == before
    assert not (context / "iid").exists()
    good = build(host, context, 'FROM busybox\nCMD ["run"]\n', "--check")
    assert (good.returncode, good.stdout, good.stderr) == (0, b"Check complete, no warnings found.\n", b"")
    assert build(host, context, SMELLY, "--call", "check,ignorestatus=true").returncode == 0


def test_check_for_programs(host: EngineProcess, context: Path) -> None:
    done = build(host, context, SMELLY + "BAD\n", "--call=check,format=json")
    assert (done.returncode, done.stderr) == (1, b"")
    document = json.loads(done.stdout)
    assert [(item["ruleName"], item["location"]["ranges"][0]["start"]["line"]) for item in document["warnings"]] == [
        ("StageNameCasing", 1)
    ]
    assert document["buildError"]["message"].startswith("dockerfile parse error on line 5: unknown instruction: BAD")
    assert document["buildError"]["location"]["ranges"][0]["start"]["line"] == 5


def test_check_needs_no_base_image_and_tells_errors(host: EngineProcess, context: Path) -> None:
    text = (
        "FROM nowhere.example/absent AS a\nCOPY $maybe /\nFROM busybox AS b\nCOPY $surely /\nFROM busybox\nEXPOSE x\n"
    )
    done = build(host, context, text, "--check")
    assert done.returncode == 1
    assert b"$surely" in done.stdout
    assert b"variable '$maybe'" not in done.stdout, "the absent image may define it"
    assert b"ERROR: dockerfile parse error on line 6: invalid containerPort: x" in done.stderr
    assert b"   6 | >>> EXPOSE x" in done.stderr
    only = build(host, context, text, "--check", "--target", "a")
    assert (only.returncode, only.stdout) == (0, b"Check complete, no warnings found.\n")
    missing = build(host, context, text, "--check", "--target", "c")
    assert missing.returncode == 1
    assert b'ERROR: target stage "c" could not be found' in missing.stderr


def test_a_dockerfile_tells_what_it_takes(host: EngineProcess, context: Path) -> None:
    text = "# VERSION what to build\nARG VERSION=1\nFROM busybox AS tools\nARG VERSION\nFROM tools\nRUN true\n"
    shown = build(host, context, text, "--call", "outline", "--build-arg", "VERSION=2").stdout.decode()
    assert shown == "BUILD ARG   VALUE   DESCRIPTION\nVERSION     2       what to build\n"
    targets = json.loads(build(host, context, text, "--call", "targets,format=json").stdout)["targets"]
    assert [target.get("name") for target in targets] == ["tools", None]
    wrong = build(host, context, text, "--call", "outline", "--target", "none")
    assert wrong.returncode == 1
    assert b'target stage "none" could not be found' in wrong.stderr


@pytest.mark.parametrize("progress", ["plain", "tree"])
def test_every_build_ends_with_its_findings(host: EngineProcess, context: Path, progress: str) -> None:
    done = build(host, context, SMELLY, "--progress", progress)
    assert done.returncode == 0
    told = done.stderr.decode().partition(" 3 warnings found ")[2].splitlines()
    assert [line.removeprefix(" - ") for line in told if line.startswith(" - ")] == FINDINGS
    failed = build(host, context, SMELLY.replace("echo built", "exit 3"), "--progress", progress)
    assert failed.returncode == 1
    assert failed.stderr.index(b" 3 warnings found ") < failed.stderr.index(b"ERROR: failed to build")


def test_findings_can_fail_a_build(host: EngineProcess, context: Path) -> None:
    done = build(host, context, f"# check=error=true\n{SMELLY}", "--progress", "plain", "--no-cache")
    assert done.returncode == 1
    names = "JSONArgsRecommended, LegacyKeyValueFormat, StageNameCasing"
    assert f"ERROR: failed to build: lint violation found for rules: {names}" in done.stderr.decode()
    assert b"   2 | >>> FROM busybox AS Build" in done.stderr
    assert b"RUN echo built" not in done.stderr.partition(b"Dockerfile:2")[0], "a step has run"
    skipped = build(
        host, context, f"# check=error=true\n{SMELLY}", "--build-arg", "BUILDKIT_DOCKERFILE_CHECK=skip=all",
        "--progress", "plain",
    )  # fmt: skip
    assert skipped.returncode == 0
    assert b"warnings found" not in skipped.stderr


def test_docker_is_told_of_findings(host: EngineProcess, context: Path) -> None:
    (context / "Dockerfile").write_text(SMELLY)
    shown = host.docker("build", str(context)).stdout.decode().splitlines()
    warnings = [line.removeprefix("[Warning] ") for line in shown if line.startswith("[Warning] ")]
    assert warnings == FINDINGS
    assert shown.index(f"[Warning] {FINDINGS[0]}") < shown.index("Step 1/4 : FROM busybox AS Build")
    quiet = host.docker("build", "-q", str(context)).stdout.decode()
    assert quiet.startswith("sha256:")
    assert len(quiet.splitlines()) == 1


def test_the_context_is_listed(host: EngineProcess, context: Path) -> None:
    done = build(host, context, "FROM busybox\n", "--context-ls")
    assert done.returncode == 0
    assert done.stdout.decode().splitlines() == [
        "in       13B  .dockerignore",
        "in       13B  Dockerfile",
        "out           node_modules/  <- .dockerignore:1 (node_modules)",
        "in        5B  page",
        "in: 3 files, 31B",
        "out: 1 path, 1 directory not looked into",
        "      1  .dockerignore:1 (node_modules)",
        "ignore file: .dockerignore",
    ]
    (context / "web.Dockerfile").write_text("FROM busybox\n")
    (context / "web.Dockerfile.dockerignore").write_text("*\n!page\n")
    listed = build(
        host, context, "FROM x\n", "-f", str(context / "web.Dockerfile"), "--context-ls", "--progress", "json"
    )
    documents = [json.loads(line) for line in listed.stdout.splitlines()]
    assert [item["path"] for item in documents[:-1] if item["included"]] == ["page"]
    assert documents[-1]["ignore_file"] == "web.Dockerfile.dockerignore"
    (context / ".dockerignore").write_text("[\n")
    broken = build(host, context, "FROM busybox\n", "--context-ls")
    assert broken.returncode == 1
    assert b".dockerignore:1: syntax error in pattern" in broken.stderr


def test_events_for_programs(host: EngineProcess, context: Path) -> None:
    done = build(host, context, SMELLY, BUILDKIT_PROGRESS="rawjson")
    events = [json.loads(line) for line in done.stderr.splitlines()]
    assert {event["event"] for event in events} >= {"finding", "plan", "started", "done", "finished", "result"}
    assert events[-1]["event"] == "result"
    assert [
        f"{item['rule']}: {item['message']} (line {item['first_line']})" for item in events[-1]["findings"]
    ] == FINDINGS
    assert events[-1]["warnings"] == FINDINGS
    failed = build(host, context, "FROM busybox\nRUN exit 3\n", "--progress", "json")
    assert failed.returncode == 1
    assert json.loads(failed.stderr.splitlines()[-1])["exit_code"] == 3
    quiet = build(host, context, SMELLY, "-q")
    assert quiet.stderr == b""
    assert quiet.stdout.decode().strip() == events[-1]["image_id"]
    assert build(host, context, SMELLY, "--progress", "quiet").stdout == quiet.stdout
    wrong = build(host, context, SMELLY, BUILDKIT_PROGRESS="fancy")
    assert wrong.returncode == 1
    assert b'BUILDKIT_PROGRESS="fancy" is no progress mode' in wrong.stderr


@pytest.mark.parametrize(
    ("terminal", "progress", "told"),
    [
        (False, "auto", ["#2 CANCELED", "ERROR: build canceled"]),
        (True, "auto", ["⊘", "ERROR: build canceled"]),
        (False, "json", ['{"event":"error","message":"build canceled","code":"canceled"}']),
    ],
)
def test_an_interrupted_build_leaves_nothing(
    host: EngineProcess, context: Path, terminal: bool, progress: str, told: list[str]
) -> None:
    # The second build gets the cache when nothing is left of the first.
    step = "RUN --mount=type=cache,id=interrupted,sharing=locked,target=/c"
    (context / "Dockerfile").write_text(f"FROM busybox\n{step} echo has begun; sleep 60601\n")
    words = [sys.executable, "-m", "tare.cli.main", "--host", host.host, "build", "--no-cache"]
    words += ["--progress", progress, str(context)]
    reader, writer = pty.openpty() if terminal else os.pipe()
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=writer, stderr=writer, env=host.environment()) as run:
        os.close(writer)
        shown = b""
        while b"has begun" not in shown.replace(b"echo has begun", b""):
            chunk = os.read(reader, 65536)
            assert chunk, shown.decode()
            shown += chunk
        run.send_signal(signal.SIGINT)
        try:
            while chunk := os.read(reader, 65536):
                shown += chunk
        except OSError:
            pass  # a terminal whose other side is closed
        assert run.wait(60) == 130
    os.close(reader)
    assert all(text in shown.decode() for text in told), shown.decode()
    done = build(host, context, f"FROM busybox\n{step} true\n", "--no-cache", "--progress", "plain")
    assert done.returncode == 0
    steps = host.run_root / "steps"
    assert not steps.exists() or not list(steps.iterdir())
    assert "sleep 60601" not in subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
