from __future__ import annotations

import pytest

from tare.build.cache.records import Part
from tare.build.kept import KeptStep
from tare.engine.debugging import ShellRequest, command_of
from tare.engine.tools import environment


def step(*argv: str) -> KeptStep:
    part = Part(kind="snapshot", key="s")
    return KeptStep(
        key="sha256:" + "3f2a91c0" * 8, stage="a", text="RUN x", place="Dockerfile:2", argv=argv, parent=(), part=part,
        exit_code=1, created=0.0,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("argv", "asked", "expected"),
    [
        (("/bin/sh", "-c", "make"), ShellRequest(), ("/bin/sh",)),
        (("/bin/bash", "-o", "pipefail", "-c", "make"), ShellRequest(), ("/bin/bash",)),
        (("/busybox/sh", "-c", "make"), ShellRequest(), ("/busybox/sh",)),
        (("/usr/bin/make", "all"), ShellRequest(), ("/bin/sh",)),
        (("bash", "-c", "make"), ShellRequest(), ("/bin/sh",)),
        ((), ShellRequest(), ("/bin/sh",)),
        (("/bin/sh", "-c", "make"), ShellRequest(shell="/bin/zsh"), ("/bin/zsh",)),
        (("/bin/bash", "-c", "make"), ShellRequest(script="ls; pwd"), ("/bin/bash", "-c", "ls; pwd")),
        (("/bin/bash", "-c", "make"), ShellRequest(command=("ls", "-l")), ("ls", "-l")),
    ],
)
def test_what_a_shell_executes(argv: tuple[str, ...], asked: ShellRequest, expected: tuple[str, ...]) -> None:
    assert command_of(step(*argv), asked) == expected


def test_a_step_is_shown_by_the_first_digits_of_its_key() -> None:
    assert (step().id, step().reference) == ("3f2a91c0", "step:3f2a91c0")


def test_the_environment_beside_a_target() -> None:
    tools = ("PATH=/bin:/busybox", "SSL_CERT_FILE=/tools.crt")
    target = (
        "PATH=/app/bin:relative:/bin",
        "SSL_CERT_FILE=/app.crt",
        "MODE=strict",
        "LD_PRELOAD=/app/x.so",
        "HOME=/app",
    )
    found = dict(item.split("=", 1) for item in environment(tools, target, ("MODE=loose",)))
    assert found == {
        "PATH": "/bin:/busybox:/target/app/bin:/target/bin",
        "SSL_CERT_FILE": "/tools.crt",
        "MODE": "loose",
    }
