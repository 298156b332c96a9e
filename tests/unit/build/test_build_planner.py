from __future__ import annotations

import pytest
from build_planning import image, plan

from tare.build.dockerfile.errors import DockerfileError
from tare.build.dockerfile.stages import parse_dockerfile
from tare.build.graph import CopyStep, Plan, RunStep, SourceStep, WorkdirStep
from tare.build.planner import Planner
from tare.build.request import BuildRequest
from tare.errors import NotFound, TareError, Unavailable
from tare.model import Platform, Reference
from tare.store.images import Image


def runs(made: Plan) -> list[RunStep]:
    return [step for step in made.steps if isinstance(step, RunStep)]


async def test_only_stages_that_the_target_needs() -> None:
    text = "FROM base AS a\nRUN a\nFROM base AS b\nRUN b\nFROM a AS c\nRUN c\nFROM c\nCOPY --from=0 /x /\n"
    assert [step.argv[-1] for step in runs(await plan(text))] == ["a", "c"]
    assert [step.argv[-1] for step in runs(await plan(text, target="b"))] == ["b"]
    assert [step.argv[-1] for step in runs(await plan(text, target="1"))] == ["b"]


async def test_names_are_the_ones_people_know() -> None:
    made = await plan("FROM base AS backend\nENV A=1\nRUN make\nFROM scratch\nCOPY --from=backend /x /\n")
    assert [step.name for step in made.shown] == [
        "[backend 1/2] FROM base AS backend",
        "[backend] ENV A=1",
        "[backend 2/2] RUN make",
        "[stage-1 1/2] FROM scratch",
        "[stage-1 2/2] COPY --from=backend /x /",
    ]
    assert [(step.index, step.total) for step in made.shown] == [(n, 5) for n in range(1, 6)]
    single = await plan("FROM base\nRUN make\n")
    assert [step.name for step in single.shown] == ["[1/2] FROM base", "[2/2] RUN make"]


async def test_inputs_come_before_what_needs_them() -> None:
    made = await plan("FROM base AS a\nRUN a\nFROM a AS b\nCOPY --from=a / /y\nFROM b\nRUN z\n")
    seen: set[str] = set()
    for step in made.steps:
        assert set(step.inputs) <= seen
        seen.add(step.id)


async def test_argument_scopes() -> None:
    made = await plan(
        "ARG TAG=latest\nARG G=global\nFROM base:$TAG\nRUN one\nARG G\nARG D=${G}-d\nARG N\nRUN two\n"
        "ENV D=env\nRUN three\n"
    )
    one, two, three = runs(made)
    assert one.env == ("PATH=/bin", "HOME=/root")
    assert two.env == ("PATH=/bin", "HOME=/root", "G=global", "D=global-d")
    assert three.env == ("PATH=/bin", "HOME=/root", "G=global", "D=env")
    assert made.output.history[-1].created_by == "RUN |3 G=global D=env N= /bin/sh -c three # buildkit"


async def test_build_arguments_override_and_unused_ones_are_told() -> None:
    made = await plan("FROM base\nARG A=1\nRUN x\n", build_args={"A": "2", "B": "3", "HTTP_PROXY": "p", "C": None})
    assert "A=2" in runs(made)[0].env
    assert runs(made)[0].secret_env == ("HTTP_PROXY=p",)
    assert "HTTP_PROXY" not in str(runs(made)[0].definition())
    assert made.warnings == ("[Warning] One or more build-args [B] were not consumed",)


async def test_platform_arguments_need_a_declaration() -> None:
    made = await plan("FROM base\nRUN a\nARG TARGETARCH\nRUN b\n")
    assert not any(item.startswith("TARGETARCH") for item in runs(made)[0].env)
    assert "TARGETARCH=amd64" in runs(made)[1].env


async def test_configuration_is_carried_from_stage_to_stage() -> None:
    made = await plan(
        'FROM base AS a\nENV A=1 B="$A x"\nENV A=2 C=$A\nWORKDIR app\nWORKDIR ../srv\nUSER app\nEXPOSE 80 90-91/udp\n'
        'VOLUME /data\nLABEL k="v w"\nSTOPSIGNAL SIGINT\nSHELL ["/bin/bash", "-ec"]\n'
        "FROM a\nCMD run it\nHEALTHCHECK --interval=5s CMD check\n"
    )
    config = made.output.config
    assert config.env == ["PATH=/bin", "HOME=/root", "A=2", "B= x", "C=1"]
    assert config.working_dir == "/srv"
    assert config.user == "app"
    assert config.exposed_ports == {"80/tcp": {}, "90/udp": {}, "91/udp": {}}
    assert config.volumes == {"/data": {}}
    assert config.labels == {"k": "v w"}
    assert config.cmd == ["/bin/bash", "-ec", "run it"]
    assert config.healthcheck is not None
    assert config.healthcheck.test == ["CMD-SHELL", "check"]
    assert [step.path for step in made.steps if isinstance(step, WorkdirStep)] == ["/app", "/srv"]


async def test_entrypoint_drops_an_inherited_cmd_only() -> None:
    assert (await plan('FROM base\nENTRYPOINT ["/x"]\n')).output.config.cmd is None
    assert (await plan('FROM base\nCMD ["a"]\nENTRYPOINT ["/x"]\n')).output.config.cmd == ["a"]


async def test_history_is_worded_as_by_docker() -> None:
    made = await plan(
        'FROM base\nWORKDIR /w\nCOPY --chown=1:2 a b /d/\nENTRYPOINT ["a", "b c"]\nEXPOSE 80\nUSER u\nARG X=1\nRUN y\n'
    )
    assert [entry.created_by for entry in made.output.history] == [
        "WORKDIR /w",
        "COPY --chown=1:2 a b /d/ # buildkit",
        'ENTRYPOINT ["a" "b c"]',
        "EXPOSE [80/tcp]",
        "USER u",
        "ARG X=1",
        "RUN |1 X=1 /bin/sh -c y # buildkit",
    ]
    assert [entry.empty for entry in made.output.history] == [False, False, True, True, True, True, False]


@pytest.mark.parametrize(
    ("text", "destination"),
    [
        ("/x", "/x"),
        ("x", "/w/x"),
        ("x/", "/w/x/"),
        (".", "/w/"),
        ("./", "/w/"),
        ("..", "/"),
        ("/", "/"),
        ("//a/../b", "/b"),
    ],
)
async def test_destinations(text: str, destination: str) -> None:
    made = await plan(f"FROM base\nWORKDIR /w\nCOPY a {text}\n")
    assert next(step for step in made.steps if isinstance(step, CopyStep)).destination == destination


async def test_copy_from_an_image() -> None:
    images = {"base:latest": image("base"), "tools:1": image("tools")}
    made = await plan("FROM base\nCOPY --from=tools:1 /a /\nCOPY --from=tools:1 /b /\n", images)
    assert [step.reference for step in made.steps if isinstance(step, SourceStep)] == ["base", "tools:1"]
    assert len(made.shown) == 3


async def test_onbuild_triggers_run_once_and_are_not_inherited() -> None:
    images = {"base:latest": image("base", on_build=["RUN trigger", "ENV T=1"])}
    made = await plan("FROM base\nRUN own\nONBUILD RUN later\n", images)
    assert [step.argv[-1] for step in runs(made)] == ["trigger", "own"]
    assert made.output.config.on_build == ["RUN later"]
    chained = await plan("FROM base AS a\nONBUILD RUN later\nFROM a\nRUN own\n", images)
    assert [step.argv[-1] for step in runs(chained)] == ["trigger", "later", "own"]


async def test_heredoc_becomes_the_script() -> None:
    made = await plan("FROM base\nRUN <<EOF\necho $X\necho 2\nEOF\n")
    assert runs(made)[0].argv == ("/bin/sh", "-c", "echo $X\necho 2\n")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("FROM scratch AS a\nCOPY --from=a /x /\n", "circular dependency detected on stage: a"),
        ("FROM base\nCOPY --from=7 /x /\n", "there is no such stage"),
        ("FROM base\nCOPY --from=Not_A_Name! /x /\n", "failed to parse stage name"),
        ("FROM $NOTHING\n", "should not be blank"),
        ("FROM --platform=a/b/c/d base\n", "invalid platform"),
        ("FROM base\nCOPY a b /c\n", "the destination must be a directory and end with a /"),
        ("FROM base\nEXPOSE 70000\n", "invalid containerPort"),
        ('FROM base\nENV A="${B:?must be set}"\n', "must be set"),
    ],
)
async def test_what_is_wrong_has_a_place(text: str, words: str) -> None:
    with pytest.raises(DockerfileError) as caught:
        await plan(text)
    assert words in caught.value.message
    assert "^" in caught.value.excerpt()


async def test_a_circle_of_stages_is_told_whole_at_the_line_that_closes_it() -> None:
    text = "FROM base AS a\nRUN x\nCOPY --from=b /x /\nFROM base AS b\nCOPY --from=c /x /\nFROM a AS c\n"
    with pytest.raises(DockerfileError, match=r"on stage: c [(]c needs a needs b needs c[)]") as caught:
        await plan(text)
    assert (caught.value.code, caught.value.line) == ("stage-cycle", 5)


@pytest.mark.parametrize(
    ("text", "line", "hint"),
    [
        ("FROM base AS build\nFROM base\nCOPY --from=biuld /x /\n", 3, "did you mean the stage build?"),
        ("FROM builder AS one\nFROM base AS build\n", 1, "did you mean the stage build?"),
        ("FROM late AS one\nFROM base AS late\nFROM one\n", 1, "move it up"),
    ],
)
async def test_a_name_that_is_nearly_a_stage_is_taken_for_one(text: str, line: int, hint: str) -> None:
    with pytest.raises(NotFound) as caught:
        await plan(text, target="" if "late" in text or "biuld" in text else "one")
    assert caught.value.code == "no-stage"
    assert hint in caught.value.hint
    assert f"Dockerfile:{line}" in caught.value.message


async def test_unknown_target_lists_the_stages() -> None:
    with pytest.raises(NotFound) as caught:
        await plan("FROM base AS one\nFROM base\n", target="two")
    assert caught.value.message == 'target stage "two" could not be found'
    assert caught.value.hint == "stages are one, 1"


async def test_an_unknown_image_is_shown_in_its_line() -> None:
    with pytest.raises(NotFound) as caught:
        await plan("FROM base\nCOPY --from=missing:2 /x /\n")
    assert "missing:2: No such image: missing:2" in caught.value.message
    assert "2 | COPY --from=missing:2 /x /" in caught.value.message


async def test_a_registry_that_gives_no_image_is_shown_in_its_line() -> None:
    async def resolve(reference: Reference, platform: Platform) -> Image:
        raise Unavailable('Get "https://reg.test/v2/": no such host', hint="check it", code="registry-unreachable")

    text = "FROM reg.test/app:1\n"
    request = BuildRequest(context=None, dockerfile=text, platform=Platform("linux", "amd64"))
    with pytest.raises(Unavailable) as caught:
        await Planner(parse_dockerfile(text), request).plan(resolve)
    first = "reg.test/app:1: failed to resolve source metadata for reg.test/app:1: Get"
    assert caught.value.message.startswith(first)
    assert "1 | FROM reg.test/app:1" in caught.value.message
    assert (caught.value.hint, caught.value.code) == ("check it", "registry-unreachable")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("COPY git@example.com:a/b.git /c", "source can't be a git ref for COPY"),
        ("COPY https://h/x /c", "source can't be a URL for COPY"),
        ("ADD https://h/a.git#-x /c", "invalid ref '-x'"),
        ("ADD --checksum=sha256:00 x /c", "checksum requires HTTP(S) or Git sources"),
        ("ADD --checksum=sha256:00 https://h/x /c", "invalid checksum digest format"),
        ("ADD --checksum=sha256:00 https://h/x.git /c", "expected hex commit hash"),
        ("ADD --checksum=ab https://h/x.git https://h/y.git /c/", "can't be specified for multiple sources"),
        ("ADD --checksum=ab https://h/x.git?checksum=cd /c", 'checksum mismatch "ab" != "cd"'),
        ("ADD --keep-git-dir=false https://h/x.git?keep-git-dir=true /c", "inconsistent keep-git-dir"),
    ],
)
async def test_bad_remote_sources_are_said_with_the_line(line: str, message: str) -> None:
    with pytest.raises(TareError) as caught:
        await plan(f"FROM base\n{line}\n")
    assert message in caught.value.message
    assert "line 2" in caught.value.message


async def test_remote_sources_of_add() -> None:
    text = "FROM base\nADD --unpack --keep-git-dir --chown=1:1 https://u:p@h/a.tgz git@h:b.git#v1 local /c/\n"
    found = await plan(text)
    step = found.by_id["0.1"]
    assert isinstance(step, CopyStep)
    assert step.downloads == ("https://u:p@h/a.tgz", "git@h:b.git#v1")
    assert (step.sources, step.unpack_downloads, step.keep_git_dir) == (("local",), True, True)
    shown = f"{step.text} {step.definition()} {found.output.history}"
    assert "u:p" not in shown and "https://xxxxx:xxxxx@h/a.tgz" in shown


async def test_an_empty_platform_is_refused() -> None:
    with pytest.raises(DockerfileError, match=r"empty platform value from expression \$BULIDPLATFORM"):
        await plan("FROM --platform=$BULIDPLATFORM base\n")


async def test_of_arg_and_env_the_last_one_counts() -> None:
    made = await plan("FROM base\nARG A=arg\nENV A=env\nRUN one\nARG A=again\nRUN two\nLABEL l=$A\n")
    one, two = runs(made)
    assert "A=env" in one.env
    assert "A=again" in two.env
    assert made.output.config.env == ["PATH=/bin", "HOME=/root", "A=env"]
    assert made.output.config.labels == {"l": "again"}


async def test_arguments_are_handed_down_to_the_stages_on_top() -> None:
    made = await plan("FROM base AS a\nARG A=1\nFROM a\nRUN x\nFROM base\nCOPY --from=1 /x /\nRUN y\n")
    assert ["A=1" in step.env for step in runs(made)] == [True, False]


async def test_the_target_stage_is_known_by_name() -> None:
    text = "FROM base AS one\nARG TARGETSTAGE\nRUN $TARGETSTAGE\nFROM one\nRUN x\n"
    assert "TARGETSTAGE=one" in runs(await plan(text, target="one"))[0].env
    assert "TARGETSTAGE=default" in runs(await plan(text))[0].env


async def test_triggers_of_an_image_reach_stages_of_the_dockerfile() -> None:
    images = {
        "base:latest": image("base"),
        "onbuild:latest": image("onbuild", on_build=["COPY --from=data /d /d", "RUN --mount=from=tool,target=/t x"]),
        "tool:latest": image("tool"),
    }
    made = await plan("FROM base AS data\nRUN make\nFROM onbuild\n", images)
    assert [step.argv[-1] for step in runs(made)] == ["make", "x"]
    (copy,) = [step for step in made.steps if isinstance(step, CopyStep)]
    assert copy.origin == "0.1"
    with pytest.raises(NotFound, match="tool:latest"):
        await plan(
            "FROM base AS data\nFROM onbuild\n", {name: images[name] for name in ("base:latest", "onbuild:latest")}
        )


async def test_triggers_of_a_stage_reach_other_stages() -> None:
    text = "FROM base AS data\nRUN make\nFROM base AS s\nONBUILD COPY --from=data /d /d\nFROM s\n"
    assert [step.argv[-1] for step in runs(await plan(text))] == ["make"]
    assert not any(written.created_by.startswith("ONBUILD") for written in (await plan(text)).output.history)


async def test_a_stage_cannot_copy_from_a_later_one() -> None:
    text = "FROM base AS one\nCOPY --from=two /x /x\nFROM base AS two\nFROM one\n"
    with pytest.raises(DockerfileError, match='cannot copy from stage "two", it needs to be defined before') as caught:
        await plan(text)
    assert caught.value.line == 2
    with pytest.raises(DockerfileError, match="circular dependency"):
        await plan("FROM base AS one\nCOPY --from=two /x /x\nFROM one AS two\n")


@pytest.mark.parametrize(
    "text", ["8080:80", "127.0.0.1:8080:80", "[::1]:8080:80/tcp", "127.0.0.1::80", ":80", "1-2:80"]
)
async def test_the_hosts_part_of_a_port_says_nothing(text: str) -> None:
    made = await plan(f"FROM base\nEXPOSE {text}\n")
    assert made.output.config.exposed_ports == {"80/tcp": {}}
    assert made.output.history[-1].created_by == "EXPOSE [80/tcp]"


@pytest.mark.parametrize("text", ["x:80", "1.2.3:1:80", "99999:80", "1-2-3:80", "80:", "80:x"])
async def test_ports_that_are_none(text: str) -> None:
    with pytest.raises(DockerfileError, match="invalid containerPort"):
        await plan(f"FROM base\nEXPOSE {text}\n")


async def test_signals_are_checked() -> None:
    with pytest.raises(DockerfileError, match="invalid signal: SIGNOPE"):
        await plan("FROM base\nSTOPSIGNAL SIGNOPE\n")
