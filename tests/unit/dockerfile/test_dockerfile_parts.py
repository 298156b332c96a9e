from __future__ import annotations

import time

import pytest

from tare.build.dockerfile.errors import DockerfileError
from tare.build.dockerfile.heredoc import chomp, parse_marker
from tare.build.dockerfile.instructions import Copy, Env, Run
from tare.build.dockerfile.mounts import parse_mount
from tare.build.dockerfile.parser import MAX_SIZE
from tare.build.dockerfile.platform_args import PROXY_ARGS, global_args, platform_args, proxy_environment
from tare.build.dockerfile.stages import parse_dockerfile, parse_trigger
from tare.build.dockerfile.values import parse_bool, parse_duration, parse_size, suggestion
from tare.build.dockerfile.words import json_strings, quoted_words, split_flags
from tare.errors import InvalidArgument
from tare.model.platform import Platform


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("0", 0),
        ("30s", 30 * 10**9),
        ("1m30s", 90 * 10**9),
        ("1.5h", 5400 * 10**9),
        (".5s", 500_000_000),
        ("1.s", 10**9),
        ("100ms", 10**8),
        ("3us", 3000),
        ("3µs", 3000),
        ("7ns", 7),
        ("-2s", -2 * 10**9),
        ("+2s", 2 * 10**9),
    ],
)
def test_durations(text: str, nanoseconds: int) -> None:
    assert parse_duration(text) == nanoseconds


@pytest.mark.parametrize("text", ["", "3", "s", "1x", "1 s", "-", ".s", "1s x", "999999999999h", "१s"])
def test_wrong_durations(text: str) -> None:
    with pytest.raises(InvalidArgument, match=r"time: (invalid|missing unit in) duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "size"), [("0", 0), ("64m", 64 << 20), ("1.5GiB", 3 << 29), ("10 kb", 10240), ("7b", 7), ("2T", 2 << 40)]
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "m", "-1", "1x", "1.m", "1 2"])
def test_wrong_sizes(text: str) -> None:
    with pytest.raises(InvalidArgument, match="invalid size"):
        parse_size(text)


def test_booleans_and_suggestions() -> None:
    assert parse_bool("T") and not parse_bool("0")
    with pytest.raises(InvalidArgument, match="invalid boolean"):
        parse_bool("yes")
    assert suggestion("chwon", ["chown", "chmod"]) == " (did you mean chown?)"
    assert suggestion("zzz", ["chown", "chmod"]) == ""


def test_flags_are_split_from_the_rest() -> None:
    assert split_flags('--a=1 --b="x y"  --c=\\" rest --d') == (("--a=1", "--b=x y", '--c="'), "rest --d")
    assert split_flags("-- --a") == ((), "--a")
    assert split_flags("--a='\\'") == (("--a=\\",), "")
    assert split_flags("") == ((), "")


def test_words_keep_quotes() -> None:
    assert quoted_words("a='b c' d\\ e \"f \\\" g\" '' end\\", "\\") == ["a='b c'", "d\\ e", '"f \\" g"', "''", "end"]


def test_json_arrays() -> None:
    assert json_strings(' ["a", "\\u00e9"] ') == ["a", "é"]
    assert json_strings('["\\ud800"]') == ["\ufffd"]
    assert json_strings('{"a": 1}') is None
    assert json_strings("[" * 100_000) is None
    assert json_strings('["a", Infinity]') is None
    with pytest.raises(InvalidArgument, match="comprised of strings only"):
        json_strings('["a", ["b"]]')


def test_heredoc_markers() -> None:
    plain, quoted = parse_marker("<<EOF"), parse_marker("3<<-'E F'")
    assert plain is not None and (plain.name, plain.expand, plain.chomp) == ("EOF", True, False)
    assert quoted is not None and (quoted.name, quoted.expand, quoted.chomp, quoted.descriptor) == (
        "E F",
        False,
        True,
        3,
    )
    assert [parse_marker(word) for word in ("<<", "<<<x", "a<<b", "<<-", "<<'x", "<")] == [None] * 6
    assert chomp("\t\ta\n\tb\n c\t\n") == "a\nb\n c\t\n"


def test_mounts_with_variables_are_resolved_later() -> None:
    dockerfile = parse_dockerfile("FROM a\nRUN --mount=type=$T,target=/x,from=b x\n")
    run = dockerfile.stages[0].instructions[0]
    assert isinstance(run, Run)
    assert run.mounts[0].unresolved and run.mounts[0].from_ == "b"
    mount = parse_mount(run.mounts[0].raw, lambda value: value.replace("$T", "cache"))
    assert (mount.type, mount.target, mount.from_, mount.unresolved) == ("cache", "/x", "b", False)
    with pytest.raises(InvalidArgument, match='unsupported mount type "x"'):
        parse_mount(run.mounts[0].raw, lambda value: value.replace("$T", "x"))


def test_quoted_mount_fields_and_the_last_word_on_read_only() -> None:
    assert parse_mount('type=cache,"target=/a,b"').target == "/a,b"
    assert parse_mount("target=/a,rw,ro").readonly
    assert not parse_mount("target=/a,ro,rw").readonly
    assert not parse_mount("target=/a,ro=false").readonly


def test_original_is_the_logical_line() -> None:
    dockerfile = parse_dockerfile("FROM a\n  run one \\\n   # c\n   two\nENV  a=b\n")
    run, env = dockerfile.stages[0].instructions
    assert run.original == "run one    two"
    assert isinstance(env, Env) and env.original == "ENV  a=b"
    assert dockerfile.source.lines[1] == "  run one \\"


def test_stages_are_found_by_name_and_number() -> None:
    dockerfile = parse_dockerfile("FROM a AS One\nFROM b AS two\nFROM c AS one\n")
    assert [stage.index for stage in dockerfile.stages] == [0, 1, 2]
    found = {name: dockerfile.stage(name) for name in ("ONE", "two", "1", "3", "x", "", "٣")}
    assert {name: stage.index if stage else None for name, stage in found.items()} == {
        **{"ONE": 2, "two": 1, "1": 1},
        **{"3": None, "x": None, "": None, "٣": None},
    }
    earlier = dockerfile.stage("one", before=2)
    assert earlier is not None and earlier.index == 0
    assert dockerfile.stage("1", before=1) is None


def test_errors_found_later_have_the_same_form() -> None:
    dockerfile = parse_dockerfile("FROM a\nCOPY --from=nope \\\n  a b\n", "images/Dockerfile.dev")
    copy = dockerfile.stages[0].instructions[0]
    assert isinstance(copy, Copy)
    error = dockerfile.source.error("stage nope does not exist", copy.range, mark="nope", hint="name a stage")
    assert isinstance(error, DockerfileError)
    assert (error.line, error.column, error.first_line, error.last_line) == (2, 13, 2, 3)
    assert error.render() == (
        "images/Dockerfile.dev:2:13: stage nope does not exist (name a stage)\n"
        "   1 | FROM a\n"
        "   2 | COPY --from=nope \\\n"
        "     |             ^^^^\n"
        "   3 |   a b"
    )


def test_errors_show_no_control_characters_and_not_too_much() -> None:
    with pytest.raises(DockerfileError) as caught:
        parse_dockerfile("FROM a\nRUNN \x1b[31m" + "x" * 5000 + "\n")
    text = str(caught.value)
    assert "\x1b" not in text
    assert max(map(len, text.split("\n"))) < 200


def test_long_instructions_are_shown_in_part() -> None:
    with pytest.raises(DockerfileError) as caught:
        parse_dockerfile("FROM a\nLABEL x=1 \\\n" + "".join(f"  l{i}=1 \\\n" for i in range(50)) + "  wrong\n")
    assert (caught.value.line, caught.value.first_line, caught.value.last_line) == (53, 2, 53)
    assert caught.value.excerpt().endswith("   53 |   wrong\n      |   ^^^^^")


def test_a_file_that_is_too_large() -> None:
    with pytest.raises(InvalidArgument, match="too large") as caught:
        parse_dockerfile("FROM a\n" + "#" * MAX_SIZE)
    assert caught.value.code == "dockerfile-too-large"


def test_triggers() -> None:
    copy = parse_trigger("COPY . /app", "base:1")
    assert isinstance(copy, Copy) and copy.destination == "/app"
    run = parse_trigger("RUN <<EOF\nx\nEOF")
    assert isinstance(run, Run) and run.command.heredocs[0].content == "x\n"
    with pytest.raises(DockerfileError, match="unknown instruction: COPPY"):
        parse_trigger("COPPY a b", "base:1")
    with pytest.raises(DockerfileError, match="an ONBUILD trigger is one instruction"):
        parse_trigger("FROM x")
    with pytest.raises(DockerfileError, match="an ONBUILD trigger is one instruction"):
        parse_trigger("RUN a\nRUN b")


def test_predefined_arguments() -> None:
    values = platform_args(Platform("linux", "amd64"), Platform("linux", "arm", "v7"))
    assert values["BUILDPLATFORM"] == "linux/amd64"
    assert values["BUILDVARIANT"] == ""
    assert (values["TARGETPLATFORM"], values["TARGETOS"], values["TARGETARCH"]) == ("linux/arm/v7", "linux", "arm")
    assert values["TARGETVARIANT"] == "v7"
    assert global_args(Platform(), Platform())["TARGETSTAGE"] == "default"
    assert global_args(Platform(), Platform(), "web")["TARGETSTAGE"] == "web"
    assert {"HTTP_PROXY", "http_proxy", "all_proxy"} <= PROXY_ARGS
    assert proxy_environment({"https_proxy": "x", "VERSION": "1"}) == {"https_proxy": "x"}


def test_a_large_file_is_quick() -> None:
    text = "FROM a AS b\n" + 'RUN --mount=type=cache,target=/c make \\\n  && true\nENV A="b c"\n' * 5000
    start = time.process_time()
    assert len(parse_dockerfile(text).stages[0].instructions) == 10_000
    assert time.process_time() - start < 3
