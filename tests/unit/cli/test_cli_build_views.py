"""How builds are shown: trees that fit, findings at the end, JSON for programs."""

from __future__ import annotations

import base64
import io
import json
import re
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from tare.cli.build_calls import Call
from tare.cli.build_checks import print_report, report_json, show_findings
from tare.cli.build_layout import final_lines, tree_lines
from tare.cli.build_plain import JsonView, PlainView
from tare.cli.build_steps import Board
from tare.cli.build_tree import TreeView
from tare.cli.build_views import progress_mode
from tare.errors import InvalidArgument


def planned(stages: int, steps: int) -> dict[str, Any]:
    vertices = [
        {
            "id": f"{stage}.{step}",
            "stage": f"stage-with-a-long-name-{stage}",
            "name": f"[stage-with-a-long-name-{stage} {step + 1}/{steps}] RUN something rather long {'x' * 200}",
        }
        for stage in range(stages)
        for step in range(steps)
    ]
    return {"event": "plan", "vertices": vertices}


def started(identifier: str) -> dict[str, Any]:
    return {"event": "started", "id": identifier, "name": "", "stage": "", "index": 1}


def done(identifier: str, *, cached: bool = False, size: int = 0) -> dict[str, Any]:
    return {"event": "done", "id": identifier, "cached": cached, "seconds": 1.0, "bytes": size}


def output(identifier: str, data: str) -> dict[str, Any]:
    return {"event": "output", "id": identifier, "stream": "stdout", "data": data}


def board_of(*events: dict[str, Any]) -> Board:
    board = Board()
    for event in events:
        board.take(event, 10.0)
    return board


def lines(board: Board, width: int = 80, height: int = 24, now: float = 12.0) -> list[str]:
    return [line.plain.rstrip() for line in tree_lines(board, width=width, height=height, now=now)]


def test_a_tree_that_fits_shows_everything() -> None:
    board = board_of(
        planned(2, 3),
        done("0.0", cached=True, size=3_000_000),
        started("0.1"),
        output("0.1", "one\ntwo\r\nthr"),
        done("1.0"),
    )
    shown = lines(board)
    assert [line[:12].rstrip() for line in shown] == [
        "stage-with-a", "  ✔ 1/3 RUN", "  ⠋ 2/3 RUN", "    │ one", "    │ two", "    │ thr", "  · 3/3 RUN",
        "stage-with-a", "  ✔ 1/3 RUN", "  · 2/3 RUN", "  · 3/3 RUN",
    ]  # fmt: skip
    assert shown[1].endswith(" cached     3MB")
    assert shown[2].endswith(" 2.0s")
    assert shown[8].endswith(" 1.0s")
    assert all("…" in line for line in shown if "RUN" in line)


@pytest.mark.parametrize("width", [20, 41, 80, 120, 200])
@pytest.mark.parametrize("height", [1, 2, 5, 22, 50])
def test_sixty_stages_fit_into_any_terminal(width: int, height: int) -> None:
    events = [planned(60, 4)]
    for stage in range(10):
        events += [done(f"{stage}.{step}", cached=stage < 3, size=1000) for step in range(4)]
    for stage in range(10, 22):
        events += [done(f"{stage}.0"), started(f"{stage}.1")]
    events += [
        output("15.1", f"宽 \033[31mred\033[0m {'w' * 500}\n" * 9),
        {"event": "failed", "id": "20.1", "error": "x"},
    ]
    board = board_of(*events)
    shown = lines(board, width, height)
    assert len(shown) <= height
    assert all(cell_len(line) < max(width, 21) for line in shown)
    assert not any("\033" in line for line in shown)
    if height >= 2:
        assert shown[0].startswith("  ✘"), "what failed comes first"
    if height >= 22 and width >= 41:
        assert sum("⠋" in line for line in shown) == 11, "all that run are shown"
        assert [line[:11] for line in shown if "stages" in line] == ["✔ 10 stages", "· 38 stages"]
    if height >= 5 and width >= 41:
        assert "-20 2/4" in shown[0], "the end of the stage's name tells stages apart"


def test_finished_stages_become_lines() -> None:
    events = [planned(6, 5)]
    for stage in range(5):
        events += [done(f"{stage}.{step}", cached=step < 2 or stage == 0, size=500) for step in range(5)]
    events += [done("5.0"), started("5.1")]
    shown = lines(board_of(*events), height=12)
    assert shown[0].startswith("✔ stage-with-a-long-name-0")
    assert shown[0].endswith("5 steps  cached   2.5kB")
    assert shown[1].endswith("5 steps, 2 cached    5.0s   2.5kB")
    assert shown[5] == "stage-with-a-long-name-5"
    assert len(shown) == 11


def test_what_is_left_on_the_screen() -> None:
    events = [planned(40, 3), *(done(f"{stage}.{step}") for stage in range(40) for step in range(3))]
    assert len(final_lines(board_of(*events), width=80, height=24)) == 160, "a build that succeeded is shown whole"
    events[-1] = started("39.2")
    events += [output("39.2", "oh no\n"), {"event": "failed", "id": "39.2", "error": "exit code: 1"}]
    shown = [line.plain for line in final_lines(board_of(*events), width=80, height=24)]
    assert shown[0].startswith("  ✘ stage-")
    assert shown[1] == "    │ oh no"
    assert shown[2].startswith("✔ 39 stages")


def test_what_ran_when_the_build_ended_is_canceled() -> None:
    board = board_of(planned(1, 2), started("0.0"))
    assert board.end(13.0) == ["0.0"]
    shown = [line.plain.rstrip() for line in final_lines(board, width=80, height=24)]
    assert shown[1].startswith("  ⊘ 1/2")
    assert shown[1].endswith("canceled  3.0s")


def test_control_characters_do_not_reach_the_terminal() -> None:
    board = board_of(planned(1, 1), started("0.0"), output("0.0", "a\x1b]0;title\x07b\x08\tc\n"))
    text = lines(board)[2]
    assert text.isprintable()


def test_a_tree_without_a_terminal_is_printed_once() -> None:
    screen = io.StringIO()
    with TreeView(Console(file=screen, width=100)) as view:
        for event in [planned(2, 2), started("0.0"), done("0.0"), done("0.1"), done("1.0"), done("1.1")]:
            view.show(event)
    text = screen.getvalue()
    assert text.count("stage-with-a-long-name-1\n") == 1
    assert text.startswith("build 4/4 steps")
    assert "\033" not in text


def test_notes_are_kept_by_what_they_are_about() -> None:
    screen = io.StringIO()
    with TreeView(Console(file=screen, width=60)) as view:
        view.show(planned(1, 1))
        for name in ("a", "b", "c", "a", "d"):
            view.show({"event": "notice", "id": name, "text": f"of {name} {'x' * 80}", "level": "info"})
        view.show({"event": "notice", "id": "0.0", "text": "of a step", "level": "info"})
    notes = [line.rstrip() for line in screen.getvalue().splitlines() if ": of" in line]
    assert [note[:7] for note in notes] == ["c: of c", "a: of a", "d: of d"]
    assert all(len(note) < 60 for note in notes)


def pulled(*messages: tuple[str, str, int, int]) -> list[dict[str, Any]]:
    return [
        {"event": "notice", "id": name, "text": text, "level": "info", "current": current, "total": total}
        for name, text, current, total in messages
    ]


def test_layers_of_a_base_image_have_lines_while_they_come() -> None:
    screen = io.StringIO()
    with TreeView(Console(file=screen, width=80, height=24, force_terminal=True, color_system=None)) as view:
        for event in pulled(
            ("1", "Pulling from app", 0, 0), ("aa", "Pulling fs layer", 0, 0), ("bb", "Waiting", 0, 0),
            ("aa", "Downloading", 5_000_000, 20_000_000),
        ):  # fmt: skip
            view.show(event)
        view._live.refresh()
        running = screen.getvalue()
        for event in pulled(("aa", "Pull complete", 0, 0), ("bb", "Already exists", 0, 0), ("", "Digest: x", 0, 0)):
            view.show(event)
    assert re.search(r"1: Pulling from app\n  \S aa Downloading .*━+─+ +5MB/20MB\n  · bb Waiting\n0/2 done", running)
    final = screen.getvalue()[len(running) :]
    assert "Digest: x" in final
    assert "aa" not in final[final.rindex("build 0/0 steps") :], "what is here is not told any more"


def test_lines_of_a_pull_tell_each_state_once(capsys: pytest.CaptureFixture[str]) -> None:
    with PlainView() as view:
        for event in pulled(
            ("aa", "Waiting", 0, 0), ("aa", "Waiting", 0, 0), ("aa", "Downloading", 1, 9),
            ("aa", "Pull complete", 0, 0), ("", "note", 0, 0), ("", "note", 0, 0),
        ):  # fmt: skip
            view.show(event)
    assert capsys.readouterr().err == "aa: Waiting\naa: Pull complete\nnote\nnote\n"


def test_steps_without_a_prefix_keep_their_names() -> None:
    board = board_of({"event": "plan", "vertices": [{"id": "a", "stage": "s", "name": 'CMD ["a [1/2] b"]'}]})
    assert board.steps["a"].label == 'CMD ["a [1/2] b"]'
    board = board_of({"event": "plan", "vertices": [{"id": "a", "stage": "s", "name": "[s] ENV A=[b] c"}]})
    assert board.steps["a"].label == "ENV A=[b] c"


def test_plain_tells_what_was_canceled(capsys: pytest.CaptureFixture[str]) -> None:
    with PlainView() as view:
        view.show(started("0.0") | {"name": "RUN a"})
        view.show(output("0.0", "half a li"))
        view.show(started("0.1") | {"name": "RUN b"})
        view.show(done("0.1"))
    assert capsys.readouterr().err.splitlines() == [
        "#1 RUN a", "#2 RUN b", "#2 DONE 1.0s", "#1 half a li", "#1 CANCELED",
    ]  # fmt: skip


def test_json_is_the_events(capsys: pytest.CaptureFixture[str]) -> None:
    events = [planned(1, 1), started("0.0"), output("0.0", "é\n"), done("0.0")]
    with JsonView() as view:
        for event in events:
            view.show(event)
    out, err = capsys.readouterr()
    assert out == ""
    assert [json.loads(line) for line in err.splitlines()] == events


FINDING = {
    "event": "finding",
    "rule": "StageNameCasing",
    "message": "Stage name 'A' should be lowercase",
    "description": "Stage names should be lowercase",
    "url": "https://docs.docker.com/go/dockerfile/rule/stage-name-casing/",
    "page": "docs/checks/stage-name-casing.md",
    "file": "Dockerfile",
    "first_line": 1,
    "last_line": 2,
    "excerpt": "Dockerfile:1\n--------------------\n   1 | >>> FROM x AS A\n--------------------",
}
ERROR = {"message": "it is wrong", "first_line": 3, "last_line": 3, "excerpt": "Dockerfile:3"}


def test_findings_end_a_build(capsys: pytest.CaptureFixture[str]) -> None:
    show_findings([])
    assert capsys.readouterr().err == ""
    later = FINDING | {"first_line": 7}
    without_url = FINDING | {"rule": "Other", "url": "", "page": "docs/checks/other.md"}
    show_findings([later, FINDING, without_url])
    assert capsys.readouterr().err.splitlines() == [
        "",
        " 3 warnings found (tare build --check shows the lines):",
        " - StageNameCasing: Stage name 'A' should be lowercase (line 1)",
        "   https://docs.docker.com/go/dockerfile/rule/stage-name-casing/",
        " - Other: Stage name 'A' should be lowercase (line 1)",
        "   docs/checks/other.md",
        " - StageNameCasing: Stage name 'A' should be lowercase (line 7)",
    ]


@pytest.mark.parametrize(
    ("findings", "error", "out", "err", "good"),
    [
        ([], None, "Check complete, no warnings found.\n", "", True),
        (
            [FINDING], None,
            "Check complete, 1 warning has been found!\n\nWARNING: StageNameCasing - "
            f"{FINDING['url']}\n{FINDING['message']}\n{FINDING['excerpt']}\n", "", False,
        ),
        ([], ERROR, "", "ERROR: it is wrong\nDockerfile:3\n", False),
    ],
)  # fmt: skip
def test_report(
    findings: list[Any], error: Any, out: str, err: str, good: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    report = {"file": "Dockerfile", "text": "FROM x AS A\n", "findings": findings, "error": error}
    assert print_report(report, as_json=False) is good
    assert capsys.readouterr() == (out, err)


def test_report_as_buildkit_writes_it() -> None:
    report = {"file": "D", "text": "FROM x AS A\n", "findings": [FINDING], "error": ERROR}
    document = json.loads(report_json(report))
    assert document["warnings"] == [
        {
            "ruleName": "StageNameCasing",
            "description": FINDING["description"],
            "url": FINDING["url"],
            "detail": FINDING["message"],
            "page": FINDING["page"],
            "location": {
                "ranges": [{"start": {"line": 1}, "end": {"line": 1}}, {"start": {"line": 2}, "end": {"line": 2}}]
            },
        }
    ]
    (source,) = document["sources"]
    assert base64.b64decode(source["data"]) == b"FROM x AS A\n"
    assert document["buildError"] == {
        "message": "it is wrong", "location": {"ranges": [{"start": {"line": 3}, "end": {"line": 3}}]}
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "check", "call"),
    [
        ("", False, Call()),
        ("", True, Call("check")),
        ("build", False, Call("build")),
        ("check", True, Call("check")),
        ("lint", False, Call("check")),
        ("check,format=json", False, Call("check", as_json=True)),
        ("check,format=text,ignorestatus=true", False, Call("check", ignore_status=True)),
    ],
)
def test_calls(text: str, check: bool, call: Call) -> None:
    assert Call.parse(text, check=check) == call


@pytest.mark.parametrize(
    ("text", "check", "message"),
    [
        ("chek", False, 'invalid --call method "chek"'),
        ("check,format=yaml", False, 'invalid --call option "format=yaml"'),
        ("check,", False, 'invalid --call option ""'),
        ("build", True, "ask for different things"),
    ],
)
def test_wrong_calls(text: str, check: bool, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        Call.parse(text, check=check)


def test_progress_modes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", io.StringIO())
    assert progress_mode(None, {}, quiet=False) == "plain", "there is no terminal"
    assert progress_mode("auto", {"BUILDKIT_PROGRESS": "rawjson"}, quiet=False) == "plain", "the option goes first"
    assert progress_mode(None, {"BUILDKIT_PROGRESS": "rawjson"}, quiet=False) == "json"
    assert progress_mode("tty", {}, quiet=False) == "tree"
    assert progress_mode(None, {"BUILDKIT_PROGRESS": "plain"}, quiet=True) == "quiet"
    with pytest.raises(InvalidArgument, match="cannot be used together"):
        progress_mode("plain", {}, quiet=True)
    with pytest.raises(InvalidArgument, match='BUILDKIT_PROGRESS="fancy"'):
        progress_mode(None, {"BUILDKIT_PROGRESS": "fancy"}, quiet=False)
