from __future__ import annotations

from typing import Any

import pytest

from tare.api.schema.builds import render_failure
from tare.api.schema.debugging import read_shell, read_tools, render_step
from tare.build.cache.records import Part
from tare.build.dockerfile.source import Source, SourceRange
from tare.build.failures import BuildStepFailed, StepNotStarted
from tare.build.graph import RunMount
from tare.build.kept import KeptMount, KeptStep
from tare.engine.debugging import ShellRequest
from tare.engine.shells import Streams
from tare.engine.tools import ToolRequest
from tare.errors import ExecutableError, InvalidArgument, NotFound


def test_a_request_without_anything_is_a_shell() -> None:
    assert read_shell({}) == ShellRequest()


def test_everything_that_can_be_asked_for() -> None:
    asked = {"command": ["ls", "/"], "user": "app", "before": True, "tty": True, "size": [24, 80]}
    assert read_shell(asked) == ShellRequest(
        command=("ls", "/"), user="app", before=True, streams=Streams(tty=True, size=(24, 80))
    )
    assert read_shell({"shell": "/bin/ash", "user": None, "size": None}) == ShellRequest(shell="/bin/ash")


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"command": "ls"}, "invalid request"),
        ({"command": ["ls"], "shell": "/bin/sh"}, "a shell and a command"),
        ({"before": "yes"}, "invalid request"),
        ({"size": [1]}, "of length 2"),
        ({"size": ["a", "b"]}, "Expected `int`"),
        ({"tty": True, "colour": True}, "unknown field `colour`"),
    ],
)
def test_requests_that_make_no_sense(asked: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidArgument, match=words):
        read_shell(asked)


def test_what_can_be_asked_of_tools() -> None:
    assert read_tools({}) == ToolRequest()
    asked = {"script": "ps", "image": "t", "user": "app", "env": ["A=1"], "write": True, "cap_add": ["NET_ADMIN"]}
    expected = ToolRequest(
        script="ps", image="t", user="app", env=("A=1",), write=True, cap_add=("NET_ADMIN",), streams=Streams()
    )
    assert read_tools(asked) == expected


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"env": ["A"]}, "invalid environment variable: 'A'"),
        ({"env": ["=1"]}, "invalid environment variable: '=1'"),
        ({"script": "ps", "command": ["ps"]}, "a script and a command"),
        ({"before": True}, "unknown field `before`"),
        ({"write": "yes"}, "invalid request"),
    ],
)
def test_requests_for_tools_that_make_no_sense(asked: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidArgument, match=words):
        read_tools(asked)


def test_a_rendered_step_has_no_environment_in_it() -> None:
    step = KeptStep(
        key="sha256:" + "ab" * 32, stage="build", text="RUN make", place="Dockerfile:3", argv=("/bin/sh", "-c", "make"),
        parent=(), part=Part(kind="snapshot", key="s"), exit_code=2, created=12.5, env=("PASSWORD=word",), bytes=7,
        mounts=(KeptMount(mount=RunMount(kind="cache", target="/c")),), withheld=("secret t",), output=("no",),
    )  # fmt: skip
    shown = render_step(step)
    assert "word" not in str(shown)
    assert shown == {
        "id": "step:abababab",
        "key": "sha256:" + "ab" * 32,
        "stage": "build",
        "instruction": "RUN make",
        "place": "Dockerfile:3",
        "command": ["/bin/sh", "-c", "make"],
        "working_dir": "/",
        "user": "",
        "network": "default",
        "mounts": [{"type": "cache", "target": "/c"}],
        "withheld": ["secret t"],
        "failed": True,
        "exit_code": 2,
        "output": ["no"],
        "created": 12.5,
        "size": 7,
    }


def test_a_failed_build_names_the_kept_step() -> None:
    failed = BuildStepFailed(
        ["false"], 1, output=[], source=Source("Dockerfile", ("RUN false",)), where=SourceRange(1, 1)
    )
    assert render_failure(failed)["step"] == ""
    failed.step = "step:3f2a91c0"
    assert render_failure(failed)["step"] == "step:3f2a91c0"
    unstarted = StepNotStarted(ExecutableError("exec: no", exit_code=127))
    unstarted.step = "step:1"
    assert (render_failure(unstarted)["step"], render_failure(unstarted)["exit_code"]) == ("step:1", None)
    assert render_failure(NotFound("no such image"))["step"] == ""
