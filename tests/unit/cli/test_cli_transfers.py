"""How transfers are shown, fed with streams that a real Docker 28.5.2 gave for pulls and pushes."""

from __future__ import annotations

import io
import json
import re
from collections.abc import AsyncGenerator, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from tare.cli.pulling import read_name, show_transfer
from tare.cli.transfer_board import DONE, ENDED, RUNNING, Board, Meter
from tare.cli.transfer_layout import final_lines, live_lines, short_time
from tare.cli.transfer_live import LiveTransfer
from tare.cli.transfer_views import PlainTransfer, QuietTransfer, counted, transfer_view
from tare.client.failures import is_answer
from tare.client.progress import Progress
from tare.client.transport import drive
from tare.errors import InternalError, InvalidArgument

STREAMS = Path(__file__).with_name("streams")
DIGEST = "sha256:e5bf77f7fd2770035a2cb5f0ca355afb30bcb7a9ea571f61b5b22846f5961c5a"


def recorded(name: str) -> list[Progress]:
    lines = (STREAMS / f"{name}.jsonl").read_text().splitlines()
    return [Progress.read(json.loads(line)) for line in lines]


def moving(identifier: str, current: int, total: int, status: str = "Downloading") -> Progress:
    return Progress(status, identifier, current, total)


def board_of(messages: Iterable[Progress], *, step: float = 0.25) -> Board:
    board = Board(0.0)
    for number, message in enumerate(messages):
        board.take(message, number * step)
    return board


def shown(board: Board, width: int = 80, height: int = 24, now: float = 10.0) -> list[str]:
    return [line.plain.rstrip() for line in live_lines(board, width=width, height=height, now=now)]


def plain(messages: Iterable[Progress]) -> str:
    stream = io.StringIO()
    with PlainTransfer(stream) as view:
        for message in messages:
            view.show(message)
    return stream.getvalue()


def test_lines_where_there_is_no_terminal_are_dockers() -> None:
    assert (
        plain(recorded("pull"))
        == f"""\
1: Pulling from app-b
a8e1f60c64fb: Pulling fs layer
564edd24ea2e: Pulling fs layer
01f0892bbf93: Pulling fs layer
01f0892bbf93: Verifying Checksum
01f0892bbf93: Download complete
564edd24ea2e: Verifying Checksum
564edd24ea2e: Download complete
a8e1f60c64fb: Verifying Checksum
a8e1f60c64fb: Download complete
a8e1f60c64fb: Pull complete
564edd24ea2e: Pull complete
01f0892bbf93: Pull complete
Digest: {DIGEST}
Status: Downloaded newer image for 127.0.0.1:5000/app-b:1
"""
    )
    assert plain(recorded("push-mounted")).splitlines()[-4:] == [
        "b318173fb1f1: Mounted from app-b",
        "9ebbedf61072: Mounted from app-b",
        "55e5a40c5dfd: Mounted from app-b",
        f"1: digest: {DIGEST} size: 948",
    ]


def test_a_state_is_told_once_for_each_image() -> None:
    waiting = Progress("Waiting", "a")
    assert plain([waiting, waiting, Progress("Digest: x"), waiting]) == "a: Waiting\nDigest: x\na: Waiting\n"


def test_aux_is_read_and_not_shown() -> None:
    last = recorded("push")[-1]
    assert last.aux == {"Tag": "1", "Digest": DIGEST, "Size": 948}
    assert plain([last]) == ""


def test_failure_in_the_stream_has_the_engines_words() -> None:
    with pytest.raises(InternalError, match=r"^no basic auth credentials$") as caught:
        Progress.read({"errorDetail": {"message": "no basic auth credentials"}, "error": "no basic auth credentials"})
    assert caught.value.code == "transfer"
    assert not is_answer(caught.value), "Docker's command line says it without 'response from daemon'"


def test_pull_on_a_terminal_while_it_runs() -> None:
    board = board_of(recorded("pull")[:9])
    assert [part.state for part in board.parts.values()] == [RUNNING, RUNNING, RUNNING]
    assert (board.moved, board.size) == (302080 + 229376 + 457, 30004780 + 20002197 + 457)
    lines = shown(board, now=2.0)
    assert lines[0] == "1: Pulling from app-b"
    assert re.fullmatch(r"  \S a8e1f60c64fb Downloading +━*─+ +302kB/30MB", lines[1])
    assert re.fullmatch(r"  \S 01f0892bbf93 Download complete", lines[3])
    assert re.fullmatch(r"0/3 done  532kB/50MB  \S+/s  .*left  2\.0s", lines[4]), lines[4]
    assert len(lines) == 5


def test_what_stays_of_a_pull() -> None:
    board = board_of(recorded("pull"))
    board.end(5.0, failed=False)
    lines = [line.plain.rstrip() for line in final_lines(board, width=80)]
    assert lines == [
        "1: Pulling from app-b",
        "  ✔ a8e1f60c64fb Pull complete             30MB",
        "  ✔ 564edd24ea2e Pull complete             20MB",
        "  ✔ 01f0892bbf93 Pull complete             457B",
        "50MB in 5.0s, 10MB/s",
        f"Digest: {DIGEST}",
        "Status: Downloaded newer image for 127.0.0.1:5000/app-b:1",
    ]


def test_what_stays_where_nothing_was_to_do() -> None:
    for name, state in (("push-again", "Layer already exists"), ("push-mounted", "Mounted from app-b")):
        board = board_of(recorded(name))
        board.end(5.0, failed=False)
        lines = [line.plain.rstrip() for line in final_lines(board, width=80)]
        assert lines[0].startswith("The push refers to repository [127.0.0.1:5000/app-")
        assert lines[1:-1] == [f"  ✔ {part} {state}" for part in ("55e5a40c5dfd", "9ebbedf61072", "b318173fb1f1")]
        assert lines[-1] == f"1: digest: {DIGEST} size: 948"
    assert len(board_of(recorded("pull-again")).notes) == 2


def test_push_counts_no_more_than_there_is() -> None:
    board = board_of(recorded("push"))
    assert board.moved == board.size == 50000300
    assert {part.state for part in board.parts.values()} == {DONE}


def test_broken_off() -> None:
    board = board_of([moving("a", 1, 9), Progress("Pull complete", "b"), Progress("Waiting", "c")])
    board.end(5.0, failed=True)
    assert [part.state for part in board.parts.values()] == [ENDED, DONE, ENDED]
    assert [line.plain[:5] for line in final_lines(board, width=80)][:3] == ["  ⊘ a", "  ✔ b", "  ⊘ c"]


def many() -> Board:
    done = [Progress("Pull complete", f"done{number}") for number in range(20)]
    running = [moving(f"run{number}", 10**6 * number + 1, 10**8) for number in range(5)]
    waiting = [Progress("Waiting", f"wait{number}") for number in range(15)]
    return board_of([Progress("Pulling from app", "1"), *done, *running, *waiting])


def test_more_layers_than_rows() -> None:
    board = many()
    assert len(shown(board, height=50)) == 42
    lines = shown(board, height=24)
    assert "  ✔ 20 done" in lines
    assert sum("wait" in line for line in lines) == 15
    lines = shown(board, height=10)
    assert lines[-3:-1] == ["  ✔ 20 done", "  · 15 waiting"]
    assert sum("Downloading" in line for line in lines) == 5
    lines = shown(board, height=7)
    assert [line[4:8] for line in lines] == ["ulli", "run0", "run1", "20 d", "15 w", "3 mo", "0 do"]


@pytest.mark.parametrize("board", [many(), board_of(recorded("pull")[:9]), Board(0.0)], ids=["many", "pull", "nothing"])
def test_every_size_of_terminal(board: Board) -> None:
    for width in (1, 5, 12, 20, 40, 51, 52, 71, 72, 80, 200, 500):
        for height in (1, 2, 3, 4, 5, 8, 24, 100):
            lines = live_lines(board, width=width, height=height, now=12.0)
            assert 1 <= len(lines) <= height
            assert all(cell_len(line.plain) <= width for line in lines), (width, height)


def test_narrow_terminal_keeps_the_bytes_longest() -> None:
    board = board_of(
        [moving("0123456789ab", 5_000_000, 90_000_000), moving("0123456789ab", 9_000_000, 90_000_000)], step=1
    )
    parts = {width: shown(board, width=width, now=1.0)[0][4:] for width in (30, 40, 50, 70, 80)}
    assert parts[30] == "0123456789ab Do  9MB/90MB"
    assert parts[40] == "0123456789ab Downloading   9MB/90MB"
    assert parts[50].endswith("9MB/90MB  4MB/s")
    assert parts[70].endswith("9MB/90MB  4MB/s  20s")
    assert "━" in parts[80]


def test_control_characters_do_not_reach_the_terminal() -> None:
    board = board_of([Progress("Wait\x1b[2Jing", "a\x1b]0;x\x07b")])
    assert not any("\x1b" in line or "\x07" in line for line in shown(board))


def test_rate_and_time_left() -> None:
    meter = Meter()
    meter.add(0.0, 0)
    assert meter.rate(0.1) == 0
    meter.add(1.0, 100)
    assert meter.rate(1.0) == 100
    assert meter.rate(2.0) == 50, "falls when nothing comes"
    for second in range(2, 20):
        meter.add(second, 100 + (second - 1) * 10)
    assert meter.rate(19.0) == pytest.approx(10)
    board = Board(0.0)
    board.take(moving("a", 10, 1000), 0.0)
    board.take(moving("a", 110, 1000), 1.0)
    assert board.seconds_left(1.0) == pytest.approx(8.9)
    board.take(Progress("Waiting", "b"), 1.0)
    assert board.seconds_left(1.0) is None, "nobody knows how large b is"
    assert shown(board, now=1.0)[-1] == "0/2 done  110B/1kB+  100B/s  1.0s"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0s"), (9.94, "9.9s"), (59.9, "59s"), (185, "3m05s"), (7800, "2h10m"), (10**9, ">99h")],
)
def test_short_times(seconds: float, text: str) -> None:
    assert short_time(seconds) == text


def test_what_is_loaded_has_no_last_word_of_its_own() -> None:
    board = board_of([moving("a", 1, 10, "Loading layer"), moving("a", 10, 10, "Loading layer"), Progress("Loaded: x")])
    assert [part.state for part in board.parts.values()] == [DONE]
    assert (board.notes, board.size) == (["Loaded: x"], 0), "the archive's bytes were counted when it was sent"
    assert "━" not in shown(board)[0]


def test_bytes_of_something_that_does_not_say_how_large_it_is() -> None:
    async def chunks() -> AsyncGenerator[bytes, None]:
        for data in (b"1234", b"567"):
            yield data

    async def work(view: QuietTransfer) -> bytes:
        return b"".join([chunk async for chunk in counted(chunks(), view, "Saving", "a.tar")])

    view = Remembering()
    assert drive(work(view)) == b"1234567"
    assert view.seen == [Progress("Saving", "a.tar", 4), Progress("Saving", "a.tar", 7)]
    board = board_of(view.seen, step=1.0)
    assert shown(board, now=1.0)[0][4:].split() == ["a.tar", "Saving", "7B", "3B/s"]
    assert shown(board, now=1.0)[1].split("  ") == ["0/1 done", "7B", "1.0s"]


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 0.1
        return self.now


def live(messages: Iterable[Progress], *, width: int = 80, height: int = 24) -> str:
    stream = io.StringIO()
    console = Console(file=stream, width=width, height=height, force_terminal=True, color_system=None)
    with LiveTransfer(stream, console=console, clock=Clock()) as view:
        for message in messages:
            view.show(message)
    return stream.getvalue()


def test_terminal_keeps_the_last_drawing_of_each_image() -> None:
    first, second = recorded("push-again"), recorded("push-mounted")[1:]
    text = live([*first, *second])
    assert text.count(f"Layer already exists\n1: digest: {DIGEST} size: 948\n") == 1
    assert text.endswith(f"b318173fb1f1 Mounted from app-b\n1: digest: {DIGEST} size: 948\n"), "uncut"
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l"), "the cursor is back"


def test_all_tags_of_a_repository() -> None:
    messages = [
        Progress("Pulling from app", "1"), Progress("Already exists", "aa"), Progress("Digest: one"),
        Progress("Pulling from app", "2"), Progress("Already exists", "aa"), Progress("Digest: two"),
        Progress("Status: Image is up to date for app"),
    ]  # fmt: skip
    board = board_of(messages[:3])
    assert board.is_over_before(messages[3])
    assert not board_of(messages[:2]).is_over_before(messages[3])
    text = live(messages)
    assert text.index("Digest: one") < text.rindex("2: Pulling from app") < text.rindex("Digest: two")


async def _stream(*messages: Progress, end: BaseException | None = None) -> AsyncGenerator[Progress, None]:
    for message in messages:
        yield message
    if end is not None:
        raise end


class Remembering(QuietTransfer):
    def __init__(self) -> None:
        self.seen: list[Progress] = []
        self.ended: type[BaseException] | None = None

    def show(self, progress: Progress) -> None:
        self.seen.append(progress)

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | object) -> None:
        self.ended = kind


def test_interrupted_transfer_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    view = Remembering()
    with pytest.raises(KeyboardInterrupt):
        drive(show_transfer(_stream(Progress("x", "a"), end=KeyboardInterrupt()), view, "pull of app:1"))
    assert view.ended is KeyboardInterrupt
    assert len(view.seen) == 1
    assert capsys.readouterr().err == "pull of app:1 canceled\n"


class _Terminal(io.TextIOWrapper):
    def isatty(self) -> bool:
        return True


def test_view_fits_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    assert type(transfer_view(quiet=True)) is QuietTransfer
    assert type(transfer_view()) is PlainTransfer
    for encoding, kind in (("utf-8", LiveTransfer), ("UTF8", LiveTransfer), ("ascii", PlainTransfer)):
        monkeypatch.setattr("sys.stderr", _Terminal(io.BytesIO(), encoding=encoding))
        assert type(transfer_view(to_stderr=True)) is kind, encoding


@pytest.mark.parametrize(
    ("name", "everything", "full", "said"),
    [
        ("app", False, "docker.io/library/app:latest", "Using default tag: latest\n"),
        ("app:1", False, "docker.io/library/app:1", ""),
        ("r.example/app", True, "r.example/app", ""),
    ],
)
def test_names(name: str, everything: bool, full: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert str(read_name(name, all_tags=everything, quiet=False)) == full
    assert capsys.readouterr().out == said
    assert str(read_name(name, all_tags=everything, quiet=True)) == full
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", ["app:1", f"app@{DIGEST}"])
def test_all_tags_and_a_tag(name: str) -> None:
    with pytest.raises(InvalidArgument, match="tag can't be used with --all-tags/-a"):
        read_name(name, all_tags=True, quiet=False)


def test_numbers_that_are_none() -> None:
    odd: dict[str, Any] = {"status": "x", "id": None, "progressDetail": {"current": "1", "total": None}, "aux": []}
    assert Progress.read(odd) == Progress("x")
