"""Whatever the text, the Dockerfile front end answers or raises its own error, and in linear time."""

from __future__ import annotations

import itertools
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tare.build.checks.bodies import BodyCheck, Scope, Surroundings
from tare.build.checks.linter import check_text
from tare.build.checks.rules import RULES
from tare.build.dockerfile.dockerignore import IgnoreRules
from tare.build.dockerfile.errors import DockerfileError
from tare.build.dockerfile.expansion import expand_words
from tare.build.dockerfile.mounts import parse_mount
from tare.build.dockerfile.parser import parse_nodes
from tare.build.dockerfile.stages import parse_dockerfile, read_stages
from tare.build.request import BuildRequest
from tare.errors import InvalidArgument
from tare.model import Platform

PIECES = st.sampled_from(
    [
        *(
            "FROM a",
            "FROM a AS b",
            "RUN ",
            "COPY ",
            "ADD ",
            "ENV ",
            "ARG ",
            "LABEL ",
            "CMD ",
            "ONBUILD ",
            "HEALTHCHECK ",
        ),
        *("SHELL ", "VOLUME ", "EXPOSE ", "USER ", "WORKDIR ", "STOPSIGNAL ", "MAINTAINER ", "ENTRYPOINT "),
        *("--mount=type=cache,target=/x ", "--from=b ", "--chown=", "--", "--interval=1s ", "NONE", "\ufeff", "\r\n"),
        *(
            "\n",
            "\n",
            "\n",
            " ",
            "\t",
            "\\\n",
            "\\",
            "`",
            "#",
            "# escape=`\n",
            "<<EOF",
            "<<-'E F'",
            "EOF\n",
            "<<",
            "1<<X",
        ),
        *(
            '["a", "b"]',
            "[",
            "]",
            '"',
            "'",
            "$",
            "${a:-",
            "${a//x/y}",
            "}",
            "=",
            "a=b",
            ",",
            "!",
            "**/",
            "\0",
            "\ud7ff",
        ),
        *("\u2028", "\x0b", "\x85", "é", "☺"),
    ]
)
TEXTS = st.one_of(st.text(max_size=200), st.lists(PIECES, max_size=60).map("".join))
TEXTS_WITH_FROM = st.lists(PIECES, max_size=40).map(lambda pieces: "FROM a\n" + "".join(pieces))
RELAXED = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@RELAXED
@given(st.one_of(TEXTS, TEXTS_WITH_FROM))
def test_the_parser_answers_or_raises_its_error(text: str) -> None:
    try:
        dockerfile = parse_dockerfile(text)
    except DockerfileError as error:
        assert 1 <= error.first_line <= error.last_line <= text.count("\n") + 1
        assert f"Dockerfile:{error.line}:{error.column}" in str(error)
        assert error.render().startswith(f"Dockerfile:{error.line}:{error.column}: ")
    except InvalidArgument as error:
        assert "cannot be empty" in error.message
    else:
        lines = [item.range for stage in dockerfile.stages for item in (stage.base, *stage.instructions)]
        assert all(one.last_line < two.first_line for one, two in itertools.pairwise(lines))


@RELAXED
@given(st.one_of(TEXTS, TEXTS_WITH_FROM))
def test_checks_find_something_or_nothing(text: str) -> None:
    try:
        parsed = parse_nodes(text)
        dockerfile = read_stages(parsed)
    except InvalidArgument:
        return
    request = BuildRequest(context=None, dockerfile=text, platform=Platform("linux", "amd64"))
    found = list(check_text(parsed, dockerfile, request))
    around = Surroundings(
        source=parsed.source, escape=parsed.directives.escape, global_args={}, build_args={}, ignored=IgnoreRules()
    )
    for stage in dockerfile.stages:
        body = BodyCheck(Scope({"PATH": "/bin"}), around)
        found += body.prepare("image", stage.base)
        for instruction in stage.instructions:
            found += body.check(instruction)
    names = {rule.name for rule in RULES}
    for finding in found:
        assert finding.rule in names
        assert 1 <= finding.first_line <= finding.last_line <= len(parsed.source.lines)
        assert finding.excerpt.startswith(f"Dockerfile:{finding.first_line}\n")


@RELAXED
@given(TEXTS, st.sampled_from(["\\", "`"]))
def test_expansion_answers_or_refuses(text: str, escape: str) -> None:
    try:
        words = expand_words(text, {"a": "x y", "b": ""}, escape)
    except InvalidArgument:
        return
    assert all(words)


@RELAXED
@given(TEXTS, st.text("ab/.*", min_size=1, max_size=8).map(lambda path: path.strip("/") or "a"))
def test_ignore_rules_answer_or_refuse(text: str, path: str) -> None:
    try:
        rules = IgnoreRules.parse(text)
    except InvalidArgument as error:
        assert error.message.startswith(".dockerignore:")
        return
    if rules.can_prune(path):
        assert rules.matches(path)
        assert rules.matches(f"{path}/below")


@RELAXED
@given(st.text("=,typecahtrgsz$/\"0'm ", max_size=60))
def test_mounts_answer_or_refuse(text: str) -> None:
    try:
        mount = parse_mount(text, lambda value: value)
    except InvalidArgument:
        return
    assert mount.raw == text


def cost(text: str) -> float:
    best = float("inf")
    for _ in range(3):
        start = time.process_time()
        try:
            parse_dockerfile(text)
        except InvalidArgument:
            pass
        best = min(best, time.process_time() - start)
    return best


@pytest.mark.parametrize(
    "unit",
    [
        "RUN x\n",
        "# c\n",
        "x \\\n",
        "\\\n",
        "# c\n\\\n",
        "a=b ",
        '"a ',
        "<<E ",
        "--mount=target=/x ",
        "${a:-",
        "$a",
        "[[",
        "  \t",
        "\n",
        "\\",
        "'",
    ],
)
@pytest.mark.parametrize(
    "start", ["FROM a\n", "FROM a\nRUN ", "FROM a\nENV ", "# escape=", "FROM a\nCOPY ", "FROM a\nCMD "]
)
def test_time_is_linear(start: str, unit: str) -> None:
    size = 20_000
    small = cost(start + unit * (size // len(unit)))
    large = cost(start + unit * (8 * size // len(unit)))
    # Eight times the text: quadratic work would take 64 times as long.
    assert large < 24 * small + 0.05
