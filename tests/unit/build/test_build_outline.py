"""Targets and outlines of Dockerfiles; the example and its answer are what Docker 28.5 gives."""

from __future__ import annotations

import pytest
from build_planning import AMD64

from tare.build.checking import describe
from tare.build.dockerfile.errors import DockerfileError
from tare.build.outline import Outline, Targets
from tare.build.request import BuildRequest
from tare.cli.build_outline import outline_json, outline_text, targets_json, targets_text
from tare.errors import NotFound

TEXT = """\
# GLOBAL a global one
ARG GLOBAL=1
ARG UNUSED=2
ARG NODEF

# build compiles it
# second line
FROM scratch AS build
# VERSION what to build
ARG VERSION=${GLOBAL}.0 OTHER
ARG GLOBAL
ENV X=$VERSION
RUN --mount=type=secret,id=token,required=true --mount=type=ssh --mount=type=secret,id=opt,env=OPT true

FROM scratch AS unrelated
ARG NOTHERE
# not a description
FROM scratch
ARG FINAL
ARG TARGETARCH
COPY --from=build /x /
RUN --mount=type=ssh,id=gh,required true
"""


def outline(text: str = TEXT, **options: object) -> Outline:
    found = describe(BuildRequest(context=None, dockerfile=text, platform=AMD64, describe="outline", **options))  # type: ignore[arg-type]
    assert isinstance(found, Outline)
    return found


def test_targets() -> None:
    found = describe(BuildRequest(context=None, dockerfile=TEXT, describe="targets"))
    assert isinstance(found, Targets)
    assert [(item.name, item.default, item.description, item.base, item.line) for item in found.targets] == [
        ("build", False, "compiles it", "scratch", 8),
        ("unrelated", False, "", "scratch", 15),
        ("", True, "", "scratch", 18),
    ]
    assert found.text == TEXT


def test_outline_of_the_default_target() -> None:
    found = outline()
    assert [(item.name, item.value, item.description, item.line) for item in found.args] == [
        ("GLOBAL", "1", "a global one", 2),
        ("VERSION", ".0", "what to build", 10),
        ("OTHER", "", "", 10),
        ("FINAL", "", "", 19),
    ]
    assert [(item.name, item.required) for item in found.secrets] == [("token", True), ("opt", False)]
    assert [(item.name, item.required) for item in found.ssh] == [("default", False), ("gh", True)]
    assert (found.name, found.description) == ("", "")


def test_outline_of_a_target_with_arguments() -> None:
    found = outline(target="build", build_args={"VERSION": "9", "FINAL": "x"})
    assert (found.name, found.description) == ("build", "compiles it")
    assert [(item.name, item.value) for item in found.args] == [("GLOBAL", "1"), ("VERSION", "9"), ("OTHER", "")]


def test_arguments_of_from_and_what_they_are_made_of() -> None:
    found = outline("ARG A=scr\nARG B=${A}atch\nARG C=x\nFROM ${B} AS one\nARG D=1\nFROM one\nARG E=$D\n")
    assert [(item.name, item.value) for item in found.args] == [("A", "scr"), ("B", "scratch"), ("D", "1"), ("E", "1")]


def test_errors() -> None:
    with pytest.raises(NotFound, match='target stage "nope"'):
        outline(target="nope")
    with pytest.raises(DockerfileError, match="unknown instruction"):
        outline("FROM a\nBAD\n")


REPORT = {
    "text": "FROM a\n",
    "name": "build",
    "description": "compiles it",
    "args": [{"name": "VERSION", "value": "9", "description": "what", "line": 2}],
    "secrets": [{"name": "token", "required": True, "line": 3}],
    "ssh": [],
}


def test_what_is_printed() -> None:
    assert outline_text(REPORT).splitlines() == [
        "TARGET:      build",
        "DESCRIPTION: compiles it",
        "",
        "BUILD ARG   VALUE   DESCRIPTION",
        "VERSION     9       what",
        "",
        "SECRET   REQUIRED",
        "token    true",
    ]
    assert '"ssh"' not in outline_json(REPORT)
    assert '"sources": [\n    "RlJPTSBhCg=="\n  ]' in outline_json(REPORT)
    target = {"name": "", "default": True, "description": "", "base": "a", "line": 1}
    assert targets_text({"targets": [target]}) == "TARGET    DESCRIPTION\n(default)"
    assert '"default": true,\n      "base": "a"' in targets_json({"targets": [target], "text": ""})
