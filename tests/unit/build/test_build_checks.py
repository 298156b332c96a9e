"""Build checks: what each rule finds and what it leaves alone, as BuildKit has it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from build_planning import AMD64, image

from tare.build.checks.findings import ChecksFailed, Finding
from tare.build.checks.linter import Linter
from tare.build.checks.options import CheckOptions
from tare.build.checks.rules import RULES, Rule
from tare.build.dockerfile.dockerignore import IgnoreRules
from tare.build.dockerfile.errors import DockerfileError
from tare.build.planner import Planner
from tare.build.request import BuildRequest
from tare.errors import InvalidArgument, NotFound
from tare.model import Platform, Reference
from tare.store.images import Image

DOCS = Path(__file__).parents[3] / "docs" / "checks"
IMAGES = {
    **{f"{name}:{tag}": image("debian", env=["PATH=/bin"]) for name in ("debian", "nginx") for tag in ("latest", "12")},
    "made-for-amd64:latest": image("amd64"),
    "base:latest": image("base", env=["PATH=/bin", "HOME=/root"]),
    "shelled:latest": image("shelled", env=["PATH=/bin"], shell=["/bin/bash", "-c"]),
    "triggers:latest": image("triggers", on_build=["ARG FROM_TRIGGER=x", "WORKDIR /srv"]),
}


async def lint(text: str, *, survey: bool = False, ignore: str = "", **options: Any) -> Linter:
    """Lint ``text`` on top of images that are there; ``survey`` looks at stages that are not needed, too."""

    async def resolve(reference: Reference, platform: Platform) -> Image:
        try:
            return IMAGES[reference.familiar()]
        except KeyError:
            raise NotFound(f"No such image: {reference.familiar()}") from None

    observed: list[Finding] = []
    request = BuildRequest(context=None, dockerfile=text, platform=AMD64, **options)
    linter = Linter(request, observed.append)
    planner = Planner(await linter.read(), request)
    rules = IgnoreRules.parse(ignore) if ignore else None
    run = planner.survey if survey else planner.plan
    await run(resolve, inspect=lambda bases, known: linter.inspect(bases, known, rules))
    assert sorted(observed, key=lambda finding: finding.first_line) == list(linter.findings)
    return linter


async def found(text: str, **options: Any) -> list[str]:
    return [finding.short for finding in (await lint(text, **options)).findings]


async def test_stage_names_and_keywords() -> None:
    assert await found("FROM scratch AS Bad\nFROM scratch as mixed\nFROM scratch AS good\n", target="good") == [
        "StageNameCasing: Stage name 'Bad' should be lowercase (line 1)",
        "FromAsCasing: 'as' and 'FROM' keywords' casing do not match (line 2)",
    ]
    assert await found("from scratch AS a\nfrom scratch as b\n") == [
        "FromAsCasing: 'AS' and 'from' keywords' casing do not match (line 1)"
    ]
    assert await found("FROM scratch AS scratch\nFROM base AS context\nFROM base AS context\n") == [
        'ReservedStageName: Stage name should not use the same name as reserved stage "scratch" (line 1)',
        'ReservedStageName: Stage name should not use the same name as reserved stage "context" (line 2)',
        'ReservedStageName: Stage name should not use the same name as reserved stage "context" (line 3)',
        'DuplicateStageName: Duplicate stage name "context", stage names should be unique (line 3)',
    ]


async def test_casing_follows_the_majority() -> None:
    message = "ConsistentInstructionCasing: Command '{}' should match the case of the command majority ({}) (line {})"
    assert await found("FROM scratch\ncopy a /\nCOPY b /\n") == [message.format("copy", "uppercase", 2)]
    assert await found("from scratch\nCOPY a /\ncopy b /\n") == [message.format("COPY", "lowercase", 2)]
    assert await found("From scratch as base\nFROM scratch AS other\n") == [message.format("From", "uppercase", 1)]
    assert await found("arg A=1\narg B=1\narg C=1\nFROM scratch\nCOPY a /\n") == [], "global ARGs do not count"
    assert await found("from scratch\nrun <<E\nENV\nE\n") == []


async def test_empty_continuations_and_maintainers() -> None:
    text = "FROM scratch\n# no finding\nCOPY a \\\n\n/\nCOPY b \\\n# a comment\n/\nMAINTAINER me\n"
    assert await found(text) == [
        "NoEmptyContinuation: Empty continuation line (line 5)",
        "MaintainerDeprecated: Maintainer instruction is deprecated in favor of using label (line 9)",
    ]


async def test_shell_forms_of_commands() -> None:
    message = (
        "JSONArgsRecommended: JSON arguments recommended for {} to prevent unintended behavior related to OS signals"
    )
    assert await found("FROM base\nCMD run it\n") == [message.format("CMD") + " (line 2)"]
    assert await found("FROM base\nENTRYPOINT run it\n") == [message.format("ENTRYPOINT") + " (line 2)"]
    assert await found('FROM base\nCMD ["run", "it"]\nHEALTHCHECK CMD check\n') == []
    assert await found('FROM base AS a\nSHELL ["/bin/sh", "-c"]\nFROM a\nCMD run it\n') == [], "chosen on purpose"
    assert await found("FROM shelled\nCMD run it\n") == []


async def test_only_the_last_of_some_instructions_counts() -> None:
    text = 'FROM base\nCMD ["a"]\nHEALTHCHECK CMD x\nENTRYPOINT ["b"]\nENV A=1\nCMD ["c"]\nHEALTHCHECK NONE\n'
    end = "should not be used in the same stage because only the last one will be used"
    assert await found(text) == [
        f"MultipleInstructionsDisallowed: Multiple CMD instructions {end} (line 2)",
        f"MultipleInstructionsDisallowed: Multiple HEALTHCHECK instructions {end} (line 3)",
    ]
    assert await found('FROM base AS a\nCMD ["a"]\nFROM a\nCMD ["b"]\n') == []


async def test_legacy_pairs() -> None:
    assert await found("FROM base\nENV a b\nLABEL c d\nENV e=f\nLABEL g=h\n") == [
        'LegacyKeyValueFormat: "ENV key=value" should be used instead of legacy "ENV key value" format (line 2)',
        'LegacyKeyValueFormat: "LABEL key=value" should be used instead of legacy "LABEL key value" format (line 3)',
    ]


async def test_relative_working_directories() -> None:
    message = 'WorkdirRelativePath: Relative workdir "app/" can have unexpected results if the base image changes'
    assert await found("FROM base\nWORKDIR app/\nWORKDIR more\n") == [f"{message} (line 2)"]
    assert await found("FROM base AS a\nWORKDIR /app\nFROM a\nWORKDIR sub\n") == []
    assert await found("FROM base\nARG W=/app\nWORKDIR $W\n") == []
    assert await found("FROM triggers\nWORKDIR app\n") == [], "the base's trigger has set one"


async def test_undefined_variables() -> None:
    assert await found("FROM base\nCOPY $foo $bar /\nARG foo=1\nRUN echo $nothing\nUSER $foo\n") == [
        "UndefinedVar: Usage of undefined variable '$bar' (line 2)",
        "UndefinedVar: Usage of undefined variable '$foo' (line 2)",
    ]
    assert await found("FROM base\nENV PATH=$PAHT:/x DIRS=$HOME\n") == [
        "UndefinedVar: Usage of undefined variable '$PAHT' (did you mean $PATH?) (line 2)"
    ]
    assert await found("FROM base\nARG foo\nCOPY x${foo} /\n") == [], "declared, though without a value"
    assert await found("FROM base AS a\nARG foo=1\nFROM a\nCOPY $foo /\n") == [], "ARGs carry over"
    assert await found("FROM triggers\nCOPY $FROM_TRIGGER /\n") == []
    assert await found("ARG G=1\nFROM base\nARG G\nLABEL $G=$G\nVOLUME /x$KEEPER\n") == [
        "UndefinedVar: Usage of undefined variable '$KEEPER' (line 5)"
    ]
    assert await found("FROM base\nCOPY <<A <<'B' /x/\n$one\nA\n$two\nB\n") == [
        "UndefinedVar: Usage of undefined variable '$one' (line 2)"
    ]
    text = "FROM base\nARG long=$bottom\nSTOPSIGNAL SIGTERM$signal\nRUN --mount=type=cache,target=/x$place true\n"
    assert await found(text) == [
        "UndefinedVar: Usage of undefined variable '$bottom' (line 2)",
        "UndefinedVar: Usage of undefined variable '$signal' (line 3)",
        "UndefinedVar: Usage of undefined variable '$place' (line 4)",
    ]
    assert await found("FROM base\nARG a=$b\n", build_args={"a": "1"}) == [], "the default is not looked at"


async def test_triggers_are_told_where_they_run() -> None:
    text = "FROM base AS a\nONBUILD ENV token=x\nONBUILD COPY $b /\nFROM a\nCOPY x /\n"
    assert await found(text) == [
        'SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data (ENV "token") (line 4)',
        "UndefinedVar: Usage of undefined variable '$b' (line 4)",
    ]


async def test_stages_that_are_not_needed() -> None:
    text = "FROM base AS one\nCOPY $foo /\nFROM base AS two\nCOPY $bar /\n"
    foo = "UndefinedVar: Usage of undefined variable '$foo' (line 2)"
    bar = "UndefinedVar: Usage of undefined variable '$bar' (line 4)"
    assert await found(text) == [bar]
    assert await found(text, survey=True) == [foo, bar]
    assert await found(text, survey=True, target="one") == [foo]


async def test_variables_in_from() -> None:
    text = "ARG tag=latest\nFROM base:${tag}${version} AS b\n"
    assert await found(text) == ["UndefinedArgInFrom: FROM argument 'version' is not declared (line 2)"]
    linter = Linter(BuildRequest(context=None, dockerfile="FROM --platform=$BULIDPLATFORM base\n"), lambda _: None)
    await linter.read()
    assert [finding.message for finding in linter.findings] == [
        "FROM argument 'BULIDPLATFORM' is not declared (did you mean BUILDPLATFORM?)"
    ]
    assert await found("ARG DEBUG\nFROM ba${DEBUG:-se}\n") == []
    assert await found("ARG A\nFROM base:${A}\n", build_args={"A": "latest"}) == [
        "InvalidDefaultArgInFrom: Default value for ARG base:${A} results in empty or invalid base image name (line 2)"
    ]
    assert await found("ARG A=\nFROM base${A}\n", build_args={"A": ":latest"}) == []


async def test_platforms_in_from() -> None:
    start, end = (
        "RedundantTargetPlatform: Setting platform to predefined",
        "is redundant as this is the default behavior",
    )
    for variable in ("$TARGETPLATFORM", "${TARGETPLATFORM}"):
        assert await found(f"FROM --platform={variable} base\n") == [f"{start} {variable} in FROM {end} (line 1)"]
    constant = 'FromPlatformFlagConstDisallowed: FROM --platform flag should not use constant value "linux/amd64"'
    assert await found("FROM --platform=linux/amd64 base\n") == [f"{constant} (line 1)"]
    assert await found("FROM --platform=linux/amd64 base AS my_amd64_stage\n") == []
    assert await found("FROM --platform=$BUILDPLATFORM base\n") == []
    assert await found("FROM --platform=linux/arm64 base AS arm64\n") == [
        'InvalidBaseImagePlatform: Base image base was pulled with platform "linux/amd64", expected "linux/arm64"'
        " for current build (line 1)"
    ]


async def test_secrets_in_variables() -> None:
    message = "SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data ({}) (line {})"
    text = "FROM base\nARG SECRET_WORDS\nENV a=1 password=2\nARG git_token=3 AUTH\nENV PUBLIC_KEY=4 keyboard=5\n"
    assert await found(text) == [
        message.format('ARG "SECRET_WORDS"', 2),
        message.format('ENV "password"', 3),
        message.format('ARG "git_token"', 4),
        message.format('ARG "AUTH"', 4),
    ]
    assert await found("ARG TOKEN=x\nFROM base\n") == [], "global ARGs reach no image"


async def test_exposed_ports() -> None:
    assert await found("FROM base\nARG P=53/UDP\nEXPOSE 80/TcP $P 90-91/udp\nEXPOSE 127.0.0.1:81:81 82:82\n") == [
        "ExposeProtoCasing: Defined protocol '80/TcP' in EXPOSE instruction should be lowercase (line 3)",
        "ExposeProtoCasing: Defined protocol '53/UDP' in EXPOSE instruction should be lowercase (line 3)",
        "ExposeInvalidFormat: EXPOSE instruction should not define an IP address or host-port mapping,"
        " found '127.0.0.1:81:81' (line 4)",
        "ExposeInvalidFormat: EXPOSE instruction should not define an IP address or host-port mapping,"
        " found '82:82' (line 4)",
    ]


async def test_descriptions_are_asked_for() -> None:
    text = (
        "# check=experimental=InvalidDefinitionDescription\n# A this is A\nARG A=1\n# wrong\nARG B=1\n"
        "# wrong\nARG C=1 D=1\n# wrong\n\nARG E=1\n# wrong\n#\nARG F=1\n# no name\nFROM base AS stage\n# stage it is\n"
        "ENV X=1\n# base it is\nFROM base AS base\n"
    )
    message = "InvalidDefinitionDescription: Comment for {} should follow the format: `# {} <description>` (line {})"
    wanted = [message.format("ARG", "B", 5), message.format("ARG", "<arg_key>", 7), message.format("FROM", "stage", 15)]
    assert await found(text) == wanted
    assert await found(text.partition("\n")[2]) == []


async def test_ignored_sources_are_asked_for() -> None:
    text = (
        "# check=skip=all;experimental=all\nFROM base\nCOPY secret/x ok /\nADD ./log.txt https://h/log.txt /\n"
        "COPY --from=shelled secret /\n"
    )
    message = "CopyIgnoredFile: Attempting to {} file {} that is excluded by .dockerignore (line {})"
    ignore = "secret\n*.txt\n"
    assert await found(text, ignore=ignore) == [
        message.format("Copy", '"secret/x"', 3),
        message.format("Add", '"log.txt"', 4),
    ]
    assert await found(text, ignore=ignore + "!secret/x/y\n") == [message.format("Add", '"log.txt"', 4)]
    assert await found(text, ignore=ignore + "!**/y\n") == [], "an exception may bring anything back"
    whole = "# check=experimental=all\nFROM base\nCOPY . /\n"
    assert await found(whole, ignore="*\n") == [message.format("Copy", '"."', 3)]
    assert await found(whole, ignore="*\n!a\n") == []
    assert await found(whole, ignore="a\n") == []
    assert await found(text.partition("\n")[2], ignore=ignore) == []


async def test_what_is_wrong_further_down_does_not_hide_findings() -> None:
    text = "FROM scratch AS Bad\nMAINTAINER me\nBADCMD\nMAINTAINER you\n"
    linter = Linter(BuildRequest(context=None, dockerfile=text), lambda _: None)
    with pytest.raises(DockerfileError, match="unknown instruction: BADCMD"):
        await linter.read()
    assert [(finding.rule, finding.first_line) for finding in linter.findings] == [
        ("StageNameCasing", 1),
        ("MaintainerDeprecated", 2),
    ]


@pytest.mark.parametrize(
    ("directive", "rules"),
    [
        ("", {"FromAsCasing", "ConsistentInstructionCasing"}),
        ("skip=all", set()),
        ("skip=all;error=true", set()),
        ("skip=FromAsCasing", {"ConsistentInstructionCasing"}),
        ("skip= FromAsCasing , ConsistentInstructionCasing ;error=true", set()),
        ("skip=Unknown", {"FromAsCasing", "ConsistentInstructionCasing"}),
    ],
)
async def test_directive_and_argument(directive: str, rules: set[str]) -> None:
    text = "FROM base as b\ncopy x /\n"
    with_directive = await lint(f"# check={directive}\n{text}" if directive else text)
    assert {finding.rule for finding in with_directive.findings} == rules
    with_directive.refuse()
    argument = {"BUILDKIT_DOCKERFILE_CHECK": directive}
    with_argument = await lint(f"# check=error=true;skip=StageNameCasing\n{text}", build_args=argument)
    assert {finding.rule for finding in with_argument.findings} == rules, "the argument goes before the directive"
    with_argument.refuse()


async def test_findings_can_fail_the_build() -> None:
    linter = await lint("# check=error=true\nFROM base as b\ncopy x /\n")
    with pytest.raises(ChecksFailed) as raised:
        linter.refuse()
    assert str(raised.value) == (
        "lint violation found for rules: ConsistentInstructionCasing, FromAsCasing"
        " (change what was found, or build without check=error=true)\n"
        "Dockerfile:2\n--------------------\n"
        "   1 |     # check=error=true\n   2 | >>> FROM base as b\n   3 |     copy x /\n--------------------"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("skipp=all", 'invalid check option "skipp" (did you mean skip?)'),
        ("skip", 'invalid check option "skip"'),
        ("error=maybe", 'invalid boolean "maybe"'),
        ("skip=all;", 'invalid check option ""'),
    ],
)
async def test_wrong_options(text: str, message: str) -> None:
    with pytest.raises(InvalidArgument) as raised:
        CheckOptions.parse(text)
    assert message in str(raised.value)
    dockerfile = f"# syntax=x\n# check={text}\nFROM base\n"
    with pytest.raises(DockerfileError) as placed:
        await Linter(BuildRequest(context=None, dockerfile=dockerfile), lambda _: None).read()
    assert message in placed.value.message
    assert placed.value.first_line == 2
    request = BuildRequest(context=None, dockerfile="FROM base\n", build_args={"BUILDKIT_DOCKERFILE_CHECK": text})
    with pytest.raises(InvalidArgument, match="build argument BUILDKIT_DOCKERFILE_CHECK"):
        await Linter(request, lambda _: None).read()


async def test_an_image_that_is_not_here_hides_no_other_finding() -> None:
    from tare.build.checks.bodies import Scope

    assert not Scope.of_image(None).complete
    assert Scope.of_image(None).child().complete is False


async def test_several_lines_are_marked() -> None:
    (finding,) = (await lint("FROM base\nENV A=1\nRUN \\\n  a\nLABEL \\\n  a b\nENV C=3\nENV D=4\n")).findings
    assert (finding.first_line, finding.last_line) == (5, 6)
    assert finding.excerpt.splitlines()[2:-1] == [
        "   4 |       a",
        "   5 | >>> LABEL \\",
        "   6 | >>>   a b",
        "   7 |     ENV C=3",
    ]


def test_every_rule_has_a_page_and_every_page_a_rule() -> None:
    pages = {path.name for path in DOCS.glob("*.md")} - {"README.md"}
    assert pages == {f"{rule.slug}.md" for rule in RULES}
    index = (DOCS / "README.md").read_text()
    for rule in RULES:
        assert rule.page == f"docs/checks/{rule.slug}.md"
        page = (DOCS / f"{rule.slug}.md").read_text()
        assert page.startswith(f"# {rule.name}\n")
        assert page.count("```dockerfile") >= 2, f"{rule.name}: a bad and a good example"
        assert ("experimental" in page.lower()) is rule.experimental
        assert f"[{rule.name}]({rule.slug}.md)" in index


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
async def test_examples_are_true(rule: Rule) -> None:
    """The bad example of a page is found by its rule, the good ones are not."""
    page = (DOCS / f"{rule.slug}.md").read_text()
    bad, good = (re.search(rf"## {title}\n\n```dockerfile\n(.*?)```", page, re.DOTALL) for title in ("Bad", "Good"))
    assert bad
    assert good
    for example, is_found in [(bad[1], True), (good[1], False)]:
        mentioned = re.match(r"# \.dockerignore has: (.*)\n", example)
        text = example if "FROM" in example else f"{example}\nFROM debian\n"
        linter = await lint(
            f"# check=experimental=all\n{text}", survey=True, ignore=mentioned[1] if mentioned else "",
            build_args={"RELEASE": "12", "TAG": "12"},
        )  # fmt: skip
        assert (rule.name in {finding.rule for finding in linter.findings}) is is_found, example


def test_addresses_are_the_published_ones() -> None:
    by_name = {rule.name: rule for rule in RULES}
    assert len(by_name) == len(RULES) == 22
    for name, slug in [
        ("JSONArgsRecommended", "json-args-recommended"),
        ("SecretsUsedInArgOrEnv", "secrets-used-in-arg-or-env"),
        ("FromPlatformFlagConstDisallowed", "from-platform-flag-const-disallowed"),
        ("WorkdirRelativePath", "workdir-relative-path"),
    ]:
        assert by_name[name].url == f"https://docs.docker.com/go/dockerfile/rule/{slug}/"
    assert by_name["InvalidBaseImagePlatform"].url == ""
