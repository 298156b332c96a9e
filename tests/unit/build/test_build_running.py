"""RUN as a step: command lines, mounts, entitlements; and what keeps secrets out of the output."""

from __future__ import annotations

import pytest
from build_planning import plan

from tare.build.dockerfile.instructions import Command, Heredoc
from tare.build.graph import RunMount, RunStep
from tare.build.ops.masking import MASK, Mask
from tare.build.running import command_line
from tare.errors import TareError

SHELL = ("/bin/sh", "-c")


async def run_step(text: str, **request: object) -> RunStep:
    planned = await plan(f"FROM base\n{text}\n", **request)  # type: ignore[arg-type]
    step = planned.steps[-1]
    assert isinstance(step, RunStep)
    return step


async def mount(text: str) -> RunMount:
    return (await run_step(f"RUN --mount={text} cmd")).mounts[0]


def test_exec_form_has_no_shell() -> None:
    assert command_line(Command(("a", "b c"), shell=False), SHELL).argv == ("a", "b c")


def test_a_lone_heredoc_is_the_script() -> None:
    document = Heredoc("EOF", "one\ntwo\n", raw="one\ntwo\n")
    for marker in ("<<EOF", "<<-EOF", '<<"EOF"', "3<<EOF"):
        line = command_line(Command((marker,), shell=True, heredocs=(document,)), SHELL)
        assert (line.argv, line.script) == ((*SHELL, "one\ntwo\n"), None)


def test_a_script_that_names_its_interpreter_is_a_file() -> None:
    document = Heredoc("EOF", "#!/usr/bin/env python3\nprint()\n")
    line = command_line(Command(("<<EOF",), shell=True, heredocs=(document,)), SHELL)
    assert line.argv == (*SHELL, "/dev/pipes/EOF")
    assert line.script is not None
    assert (line.script.path, line.script.text) == ("/dev/pipes/EOF", document.content)


def test_several_heredocs_are_the_shells_business() -> None:
    documents = (Heredoc("A", "one\n", raw="one\n"), Heredoc("B", "two\n", chomp=True, raw="\ttwo\n"))
    line = command_line(Command(("cat <<A; cat <<-B",), shell=True, heredocs=documents), SHELL)
    assert line.argv[2] == "cat <<A; cat <<-B\none\nA\n\ttwo\nB"


async def test_mounts_of_secrets() -> None:
    plain = await mount("type=secret,id=token")
    assert (plain.kind, plain.name, plain.target, plain.variable) == ("secret", "token", "/run/secrets/token", "")
    variable = await mount("type=secret,id=token,env=TOKEN")
    assert (variable.target, variable.variable) == ("", "TOKEN")
    both = await mount("type=secret,id=token,env=TOKEN,target=/x,mode=0440,uid=3,required=true")
    assert (both.target, both.mode, both.uid, both.gid, both.required) == ("/x", 0o440, 3, None, True)
    assert (await mount("type=secret,target=/etc/key")).name == "key"


async def test_mounts_of_agents_are_numbered() -> None:
    step = await run_step("RUN --mount=type=ssh --mount=type=ssh,id=b cmd")
    assert [(m.name, m.target) for m in step.mounts] == [
        ("default", "/run/buildkit/ssh_agent.0"),
        ("b", "/run/buildkit/ssh_agent.1"),
    ]


async def test_relative_targets_variables_and_depth() -> None:
    step = await run_step(
        "ARG where=deep\nWORKDIR /w\nRUN --mount=type=cache,target=a/${where} --mount=type=tmpfs,target=/w,size=1m cmd"
    )
    assert [(m.kind, m.target, m.name, m.size) for m in step.mounts] == [
        ("tmpfs", "/w", "", 1 << 20),
        ("cache", "/w/a/deep", "/w/a/deep", 0),
    ]


@pytest.mark.parametrize("kind", ["cache", "tmpfs", "bind"])
async def test_the_root_cannot_be_a_mount_point(kind: str) -> None:
    with pytest.raises(TareError, match="invalid mount target"):
        await mount(f"type={kind},target=/")


@pytest.mark.parametrize(
    ("flag", "name"), [("--security=insecure", "security.insecure"), ("--network=host", "network.host")]
)
async def test_entitlements(flag: str, name: str) -> None:
    with pytest.raises(TareError, match=rf"{name} is not allowed") as caught:
        await run_step(f"RUN {flag} cmd")
    assert f"--allow {name}" in str(caught.value)
    step = await run_step(f"RUN {flag} cmd", allow=frozenset([name]))
    assert step.insecure is (name == "security.insecure")


async def test_the_definition_names_secrets_without_contents() -> None:
    step = await run_step("RUN --mount=type=secret,id=token cmd")
    assert [item["name"] for item in step.definition()["mounts"]] == ["token"]


@pytest.mark.parametrize("cut", range(1, 20))
def test_secrets_are_masked_wherever_the_output_is_cut(cut: int) -> None:
    mask = Mask([b"hunter2hunter2\n"])
    text = b"a hunter2hunter2 b hunter2"
    shown = mask.feed(text[:cut]) + mask.feed(text[cut:]) + mask.finish()
    assert shown == b"a " + MASK + b" b hunter2"


def test_masking_leaves_short_values_and_everything_without_secrets() -> None:
    assert Mask([b"true"]).feed(b"true or false") == b"true or false"
    assert Mask([]).feed(b"anything") == b"anything"


def test_the_longest_secret_goes_first() -> None:
    mask = Mask([b"password", b"password-and-more"])
    assert mask.feed(b"password-and-more password!\n") + mask.finish() == MASK + b" " + MASK + b"!\n"
