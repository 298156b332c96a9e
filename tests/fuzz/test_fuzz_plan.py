"""Whatever the Dockerfile says, a plan is made or its own error raised, in linear time: no file is looked at for it."""

from __future__ import annotations

import asyncio
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tare.build.dockerfile.errors import DockerfileError
from tare.build.dockerfile.stages import parse_dockerfile
from tare.build.graph import Plan
from tare.build.planner import Planner
from tare.build.request import BuildRequest
from tare.errors import InternalError, TareError
from tare.model import Digest, Platform, Reference
from tare.oci.image import ExecutionConfig, ImageConfig, RootFS
from tare.store.images import Image

WORDS = st.sampled_from(
    [
        *("a", "b", "$x", "${x:-y}", "${x}", '"q q"', "'s'", "\\ ", "/p", "./r", "..", "*", "1", "80", "80/udp", "a:b"),
        *(
            "x=1",
            "y=$x",
            "x=${y#1}",
            "SIGTERM",
            "9",
            "app:staff",
            '["a", "b"]',
            "[]",
            "--from=s0",
            "--from=1",
            "--link",
        ),
        *("--chown=$x", "--chmod=u+x", "--chmod=9", "--exclude=b", "--parents", "--mount=type=cache,target=$x"),
        *("--mount=from=s1,target=/t", "--mount=type=secret,id=a", "--network=none", "CMD", "NONE", "--retries=3"),
        *("<<EOF\n$x\nEOF", "http://h/f", "git@h:r", "é", "\0", "${x", "RUN", "COPY", "ENV", "AS", "s0", "scratch"),
    ]
)
NAMES = st.sampled_from(
    [
        *("RUN", "COPY", "ADD", "ENV", "ARG", "LABEL", "CMD", "ENTRYPOINT", "EXPOSE", "VOLUME", "USER", "WORKDIR"),
        *("SHELL", "STOPSIGNAL", "HEALTHCHECK", "ONBUILD", "MAINTAINER"),
    ]
)
LINES = st.tuples(NAMES, st.lists(WORDS, min_size=1, max_size=5)).map(lambda line: f"{line[0]} {' '.join(line[1])}")
BASES = st.sampled_from(["base", "scratch", "s0", "s1", "${x:-base}", "$x", "--platform=$BUILDPLATFORM base", "UPPER"])
STAGES = st.lists(st.tuples(BASES, st.lists(LINES, max_size=6)), min_size=1, max_size=4).map(
    lambda stages: "".join(
        f"FROM {base} AS s{number}\n" + "".join(f"{line}\n" for line in lines)
        for number, (base, lines) in enumerate(stages)
    )
)
RELAXED = settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def image(triggers: list[str]) -> Image:
    config = ImageConfig(
        architecture="amd64",
        os="linux",
        config=ExecutionConfig(env=["PATH=/bin"], on_build=triggers),
        rootfs=RootFS(diff_ids=[str(Digest.of(b"base"))]),
    )
    return Image(id=Digest.of(b"base"), config=config, tags=(), size=1, created=0.0)


def plan(text: str, *, triggers: list[str] | None = None, **options: str) -> Plan:
    async def resolve(_reference: Reference, _platform: Platform) -> Image:
        return image(triggers or [])

    request = BuildRequest(context=None, dockerfile=text, build_args={"x": "given"}, **options)  # type: ignore[arg-type]
    made: list[Plan] = []

    async def work() -> None:  # gives nothing back: asyncio would write it out in debug mode
        made.append(await Planner(parse_dockerfile(text), request).plan(resolve))

    asyncio.run(work())
    return made[0]


@RELAXED
@given(STAGES, st.lists(LINES, max_size=2), st.sampled_from(["", "s0", "1", "ghost"]))
def test_a_plan_is_made_or_its_error_raised(text: str, triggers: list[str], target: str) -> None:
    try:
        made = plan(text, triggers=triggers, target=target)
    except TareError as error:
        assert not isinstance(error, InternalError)
        assert error.message
        return
    seen: set[str] = set()
    for step in made.steps:
        assert step.id not in seen, "a step is there twice"
        assert set(step.inputs) <= seen, "a step comes before what it needs"
        seen.add(step.id)
    assert made.output.tip in seen
    assert all(written.step in seen for written in made.output.history)


def cost(text: str) -> float:
    best = float("inf")
    for _ in range(3):
        start = time.process_time()
        try:
            plan(text)
        except TareError:
            pass
        best = min(best, time.process_time() - start)
    return best


def repeated(unit: str, count: int) -> str:
    """``unit`` many times, ``#`` being its number and ``@`` the number before."""
    return "FROM a AS s0\n" + "".join(
        unit.replace("#", str(number)).replace("@", str(number - 1)) for number in range(1, count + 1)
    )


@pytest.mark.parametrize(
    "unit",
    [
        *("RUN x\n", "COPY a b\n", "ARG a=1\n", "ARG a#=1\n", "ENV a=$a\n", "ENV a#=${a:-b} b=c\n", "LABEL a#=b\n"),
        *("EXPOSE 80\n", "VOLUME /a#\n", "WORKDIR a\n", "WORKDIR ..\n", "USER a\n", "ONBUILD RUN x\n"),
        *("HEALTHCHECK CMD x\n", "RUN --mount=type=cache,target=/a x\n", "RUN --mount=from=i#,target=/a x\n"),
        *("COPY --from=i# x y\n", "FROM a\n", "FROM s@ AS s#\n", "FROM a AS s#\nCOPY --from=s@ x y\n"),
        *("FROM a AS s#\nCOPY --from=s0 x y\n", "COPY <<E /x\n$a\nE\n", "ENV a=$a$a\n", "EXPOSE 1-65535\n"),
    ],
)
def test_time_is_linear(unit: str) -> None:
    count = 2 if "-65535" in unit else 250  # 65,535 ports each
    small, large = cost(repeated(unit, count)), cost(repeated(unit, 8 * count))
    # Eight times the text: quadratic work would take 64 times as long.
    assert large < 24 * small + 0.1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"ENV a={'x' * 100_000}\n" + "RUN x\n" * 1000, "64 MiB"),
        (f"ARG a={'x' * 100_000}\n" + "LABEL a=$a\n" * 1000, "64 MiB"),
        (f"ARG a={'x' * 100_000}\n" + "COPY <<E /x\n$a\nE\n" * 1000, "64 MiB"),
        ("WORKDIR a/b/c/d/e\n" * 1000, "4095 bytes"),
    ],
)
def test_what_grows_without_end_is_refused(text: str, words: str) -> None:
    with pytest.raises(DockerfileError, match=words):
        plan(f"FROM a\n{text}")
