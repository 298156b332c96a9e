"""Progress of transfers in Docker's words; the expected lines are Docker 28.5.2's own."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tare.engine.progress import Transfer, transfer_message


@pytest.mark.parametrize(
    "line",
    [
        '{"status":"Already exists","progressDetail":{},"id":"5d936cbcb15f"}',
        '{"status":"Downloading","progressDetail":{"current":98,"total":98},'
        '"progress":"[==================================================\\u003e]      98B/98B","id":"d72a4468a792"}',
        '{"status":"Downloading","progressDetail":{"current":36445,"total":3002106},'
        '"progress":"[\\u003e                                                  ]  36.45kB/3.002MB",'
        '"id":"863154e80305"}',
        '{"status":"Pushing","progressDetail":{"current":512,"total":3},'
        '"progress":"[==================================================\\u003e]     512B","id":"ce34ddf61285"}',
        '{"status":"Pushing","progressDetail":{"current":2129920,"total":1985583},'
        '"progress":"[==================================================\\u003e]   2.13MB","id":"884ddeb59afb"}',
    ],
)
def test_messages_are_dockers(line: str) -> None:
    expected: dict[str, Any] = msgspec.json.decode(line)
    detail = expected["progressDetail"]
    message = transfer_message(expected["id"], expected["status"], detail.get("current", 0), detail.get("total", 0))
    assert message == expected
    assert list(message) == list(expected)


def test_bytes_of_unknown_sum() -> None:
    assert transfer_message("a", "Downloading", 1_234_567)["progress"] == " 1.235MB"
    assert transfer_message("a", "Downloading", 5_000_000_000_000_000)["progress"] == "5000TB".rjust(8)


def test_bytes_are_told_once_in_a_while_and_at_the_end() -> None:
    now = 0.0
    told: list[dict[str, Any]] = []
    transfer = Transfer("a", clock=lambda: now)
    with transfer.told(told.append):
        for current in range(8):
            now = current / 16
            transfer.move("Downloading", current, 7)
    transfer.say("Download complete")  # nobody listens any more
    assert [message["progressDetail"].get("current", 0) for message in told] == [0, 2, 4, 6, 7]


def test_who_comes_later_is_told_the_present_state() -> None:
    transfer, first, second = Transfer("a"), list[dict[str, Any]](), list[dict[str, Any]]()
    with transfer.told(first.append):
        transfer.say("Pulling fs layer")
        with transfer.told(second.append):
            transfer.say("Download complete")
    assert [message["status"] for message in first] == ["Pulling fs layer", "Download complete"]
    assert second == first
