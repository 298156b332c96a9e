from __future__ import annotations

from typing import Any

import click
import pytest

from tare.cli.debug import debug


def parsed(*words: str) -> dict[str, Any]:
    return debug.make_context("debug", list(words)).params


@pytest.mark.parametrize(
    ("words", "step", "command", "options"),
    [
        (("step:1",), "step:1", (), {}),
        (("step:1", "ls", "-l"), "step:1", ("ls", "-l"), {}),
        (("--before", "step:1", "ls"), "step:1", ("ls",), {"before": True}),
        (("step:1", "--before"), "step:1", (), {"before": True}),
        (
            ("step:1", "--before", "-u", "root", "ls", "--before"),
            "step:1",
            ("ls", "--before"),
            {"before": True, "user": "root"},
        ),
        (("-u", "app", "step:1", "--shell", "/bin/ash"), "step:1", (), {"user": "app", "shell": "/bin/ash"}),
        (("step:1", "--", "--version"), "step:1", ("--version",), {}),
        (
            ("web", "-c", "ps; ls", "--image", "tools", "-e", "A=1"),
            "web",
            (),
            {"script": "ps; ls", "image": "tools", "env": ("A=1",)},
        ),
        (
            ("--cap-add", "NET_ADMIN", "web", "--write", "ip", "-c", "a"),
            "web",
            ("ip", "-c", "a"),
            {"cap_add": ("NET_ADMIN",), "write": True},
        ),
        (("--ls",), "", (), {"list_them": True}),
        ((), "", (), {}),
    ],
)
def test_options_stand_on_either_side_of_the_step(
    words: tuple[str, ...], step: str, command: tuple[str, ...], options: dict[str, Any]
) -> None:
    found = parsed(*words)
    assert (found["target"], found["command"]) == (step, command)
    given = {name: value for name, value in found.items() if name not in ("target", "command") and value}
    assert given == options


def test_an_unknown_option_is_told() -> None:
    with pytest.raises(click.NoSuchOption):
        parsed("--nosuch", "step:1")
