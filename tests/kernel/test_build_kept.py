"""Failed steps: what is kept of them, how they are entered, when they go."""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3

import pytest
from build_bench import Bench
from build_parts import ChrootExecutor

from tare.build.builder import Builder
from tare.build.failures import BuildStepFailed
from tare.build.kept import KeepPolicy, KeptStep
from tare.build.ops.keeping import Visit
from tare.errors import InvalidArgument, NotFound
from tare.model.execution import ExecRequest

pytestmark = pytest.mark.root

HEAD = "FROM test.local/base:1\nWORKDIR /work\nENV MODE=strict\n"
TEXT = HEAD + "RUN echo before > /first\nRUN echo made > /work/log; rm /first; echo oops; exit 3\n"


async def fail(bench: Bench, text: str = TEXT, **options: object) -> KeptStep:
    with pytest.raises(BuildStepFailed) as caught:
        await bench.build(text, **options)
    return await bench.builder.kept.find(caught.value.step)


async def visit(bench: Bench, step: KeptStep, command: str, **options: object) -> tuple[int, str]:
    output: list[bytes] = []
    asked = Visit(argv=("/bin/sh", "-c", f"exec 2>&1; {command}"), **options)  # type: ignore[arg-type]
    async with bench.builder.entered(step, asked) as request:
        code = await bench.executor.execute(request, lambda _, data: output.append(data))
    return code, b"".join(output).decode()


async def snapshots(bench: Bench) -> set[str]:
    query = "SELECT key FROM snapshots"
    return await bench.store.db.read(lambda db: {row[0] for row in db.execute(query)})


def policy(bench: Bench, value: KeepPolicy) -> None:
    bench.builder.kept.policy = value


async def test_a_failed_step_is_kept_with_what_describes_it(bench: Bench) -> None:
    step = await fail(bench)
    assert step.reference.startswith("step:") and len(step.id) == 8
    assert (step.exit_code, step.cwd, step.user, step.place) == (3, "/work", "", "Dockerfile:5")
    assert step.text.startswith("RUN echo made > /work/log")
    assert step.output == ("oops",)
    assert "MODE=strict" in step.env
    assert step.bytes > 0
    assert await bench.builder.kept.list() == [step]
    for reference in (step.id, f"step:{step.id[:3]}", f"step:{step.id.upper()}"):
        assert await bench.builder.kept.find(reference) == step


async def test_after_and_before_differ_by_what_the_step_did(bench: Bench) -> None:
    step = await fail(bench)
    assert await visit(bench, step, "cat log; ls /first; echo $MODE; exit 7") == (
        7,
        "made\nls: /first: No such file or directory\nstrict\n",
    )
    assert await visit(bench, step, "cat /first; ls log", before=True) == (
        1,
        "before\nls: log: No such file or directory\n",
    )


async def test_what_a_visitor_writes_is_thrown_away(bench: Bench) -> None:
    step = await fail(bench)
    known = await snapshots(bench)
    assert await visit(bench, step, "echo changed > log; echo new > new; rm -r /etc; cat log") == (0, "changed\n")
    assert await visit(bench, step, "ls; cat log /etc/group") == (0, "log\nmade\nroot:x:0:\napp:x:1600:\nstaff:x:50:\n")
    assert await snapshots(bench) == known
    await bench.assert_nothing_left()


async def test_steps_that_ended_well_and_cancelled_ones_are_not_kept(bench: Bench) -> None:
    await bench.build("FROM test.local/base:1\nRUN true\n".replace("true", "echo ok"))
    task = asyncio.create_task(bench.build("FROM test.local/base:1\nRUN echo started; sleep 1000\n"))
    async with asyncio.timeout(10):
        while b"started" not in bench.output():
            await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await bench.builder.kept.list() == []


async def test_secrets_are_in_neither_row_nor_file_system(bench: Bench) -> None:
    words = b"correct horse battery"
    mounts = (
        "--mount=type=secret,id=token,env=TOKEN,target=/run/secrets/token --mount=type=secret,id=extra,required=false"
    )
    step = await fail(
        bench,
        f"FROM test.local/base:1\nRUN {mounts} echo $TOKEN; exit 1\n",
        secrets={"token": words},
        build_args={"HTTPS_PROXY": "http://user:pw-of-proxy@proxy:1"},
    )
    assert step.withheld == ("secret token", "secret extra", "variable HTTPS_PROXY")
    assert step.output == ("****",)
    document = await bench.store.db.read(lambda db: db.execute("SELECT document FROM kept_steps").fetchone()[0])
    assert words.decode() not in document and "pw-of-proxy" not in document
    upper = await bench.store.snapshots.upper_path(step.part.key)
    for path in upper.rglob("*"):
        assert path.is_dir() or words not in path.read_bytes(), path
    async with bench.builder.entered(step, Visit(argv=("true",))) as request:
        assert request.files == ()
        assert not any("TOKEN" in item or "PROXY" in item for item in request.env)


async def test_mounts_of_context_stage_and_cache_are_there_again(bench: Bench) -> None:
    (bench.context / "src").mkdir()
    (bench.context / "src/main").write_text("old text")
    mounts = (
        "--mount=type=bind,source=src,target=/src --mount=type=bind,from=other,source=/made,target=/made"
        " --mount=type=cache,id=c,target=/cache,sharing=locked"
    )
    text = (
        "FROM test.local/base:1 AS other\nRUN echo from-stage > /made\n"
        f"FROM test.local/base:1\nRUN {mounts} echo cached > /cache/f; cat /src/main /made; exit 1\n"
    )
    step = await fail(bench, text)
    (bench.context / "src/main").write_text("new text")
    await bench.store.db.write(lambda db: db.execute("DELETE FROM build_cache"))
    await bench.store.collect()
    assert await visit(bench, step, "cat /src/main /made /cache/f") == (0, "old textfrom-stage\ncached\n")
    assert [mount.mount.target for mount in step.mounts] == ["/src", "/made", "/cache"]
    async with bench.builder.entered(step, Visit(argv=("true",))):
        async with asyncio.timeout(20):  # the cache is not locked against builds
            await bench.build(text.replace("exit 1", "exit 0"))


async def test_a_mount_whose_origin_is_gone_is_left_out(bench: Bench) -> None:
    (bench.context / "f").write_text("1")
    step = await fail(bench, "FROM test.local/base:1\nRUN --mount=type=bind,target=/src cat /src/f; exit 1\n")

    def forget(db: sqlite3.Connection) -> None:
        db.execute("DELETE FROM kept_step_parts")

    await bench.store.db.write(forget)
    await bench.store.collect()
    assert await visit(bench, step, "ls /src/f") == (1, "ls: /src/f: No such file or directory\n")


async def test_a_heredoc_script_is_there_again(bench: Bench) -> None:
    step = await fail(bench, "FROM test.local/base:1\nRUN <<EOF\n#!/bin/sh\nexit 4\nEOF\n")
    async with bench.builder.entered(step, Visit(argv=("true",))) as request:
        assert [(file.destination, file.data) for file in request.files] == [("/dev/pipes/EOF", b"#!/bin/sh\nexit 4\n")]


async def test_user_and_network_are_the_steps_unless_asked_otherwise(bench: Bench) -> None:
    step = await fail(
        bench, "FROM test.local/base:1\nUSER app\nRUN --network=none exit 1\n", extra_hosts=("a:10.0.0.1",)
    )
    async with bench.builder.entered(step, Visit(argv=("id",))) as request:
        assert (request.user, request.network, request.extra_hosts) == ("app", "none", ("a:10.0.0.1",))
    async with bench.builder.entered(step, Visit(argv=("id",), user="root")) as request:
        assert request.user == "root"


async def test_collection_spares_kept_steps_and_takes_removed_ones(bench: Bench) -> None:
    step = await fail(bench)
    await bench.store.db.write(lambda db: db.execute("DELETE FROM build_cache"))
    await bench.store.images.remove((await bench.store.images.list())[0].id)
    await bench.store.collect()
    assert await visit(bench, step, "cat log") == (0, "made\n")
    removed = await bench.builder.kept.remove(step.reference)
    assert removed == step
    assert step.part.key not in await snapshots(bench)
    await bench.store.collect()
    assert await snapshots(bench) == set()
    with pytest.raises(NotFound, match=f"no such step: {step.reference}"):
        await bench.builder.kept.find(step.reference)


async def test_a_step_is_kept_until_its_last_shell_has_left(bench: Bench) -> None:
    step = await fail(bench)
    asked = Visit(argv=("/bin/sh", "-c", "cat log"))
    async with bench.builder.entered(step, asked) as request:
        await bench.builder.kept.remove(step.id)
        assert step.part.key in await snapshots(bench)
        assert await bench.executor.execute(request, lambda *_: None) == 0
    assert step.part.key not in await snapshots(bench)


async def test_the_same_step_failing_again_takes_the_place(bench: Bench) -> None:
    first = await fail(bench)
    second = await fail(bench)
    assert (second.id, await bench.builder.kept.list()) == (first.id, [second])
    assert first.part != second.part
    assert first.part.key not in await snapshots(bench)


async def test_only_the_newest_are_kept_and_only_for_a_time(bench: Bench) -> None:
    policy(bench, KeepPolicy(count=2))
    steps = [await fail(bench, f"FROM test.local/base:1\nRUN echo {number}; exit 1\n") for number in range(3)]
    assert await bench.builder.kept.list() == [steps[2], steps[1]]
    assert steps[0].part.key not in await snapshots(bench)
    policy(bench, KeepPolicy(seconds=0))
    await bench.builder.recover()
    assert await bench.builder.kept.list() == []
    assert not {step.part.key for step in steps} & await snapshots(bench)


async def test_nothing_is_kept_where_the_policy_says_so(bench: Bench) -> None:
    policy(bench, KeepPolicy(count=0))
    with pytest.raises(BuildStepFailed) as caught:
        await bench.build(TEXT)
    assert caught.value.step == ""
    rows = "SELECT count(*) FROM snapshots WHERE kind = 'committed'"
    assert await bench.store.db.read(lambda db: db.execute(rows).fetchone()[0]) == 1  # of the step that ended well
    await bench.assert_nothing_left()


async def test_nothing_is_kept_while_the_disk_is_nearly_full(bench: Bench) -> None:
    policy(bench, KeepPolicy(free_share=2.0, free_bytes=1 << 62))
    with pytest.raises(BuildStepFailed) as caught:
        await bench.build(TEXT)
    assert (caught.value.step, await bench.builder.kept.list()) == ("", [])
    assert (await fail(bench, keep_failed=True)).exit_code == 3


async def test_a_build_that_asks_for_it_keeps_its_step_in_any_case(bench: Bench) -> None:
    policy(bench, KeepPolicy(count=0))
    step = await fail(bench, keep_failed=True)
    assert await visit(bench, step, "cat log") == (0, "made\n")
    await bench.builder.recover()
    assert await bench.builder.kept.list() == []


async def test_prune_says_how_much_it_freed(bench: Bench) -> None:
    step = await fail(bench, "FROM test.local/base:1\nRUN echo 0123456789 > /x; exit 1\n")
    assert await bench.builder.kept.prune(older_than=3600) == 0
    assert await bench.builder.kept.prune() == step.bytes > 0
    assert await bench.builder.kept.list() == []


async def test_kept_steps_survive_the_engine(bench: Bench) -> None:
    step = await fail(bench)
    builder = Builder(bench.store, bench.executor, bench.sources, bench.work / "cache")
    await builder.recover()
    assert await builder.kept.list() == [step]


async def test_after_the_fix_only_the_failed_step_and_later_ones_run(bench: Bench) -> None:
    await fail(bench, TEXT + "RUN cat log > copy\n")
    bench.executor.commands.clear()
    await bench.build(TEXT.replace("exit 3", "exit 0") + "RUN cat log > copy\n")
    assert [argv[-1] for argv in bench.executor.commands] == [
        "echo made > /work/log; rm /first; echo oops; exit 0",
        "cat log > copy",
    ]


class LosingExecutor(ChrootExecutor):
    """Takes the snapshot's directory away after the command."""

    async def execute(self, request: ExecRequest, output: object) -> int:
        code = await super().execute(request, output)  # type: ignore[arg-type]
        upper = await self._store.snapshots.upper_path(request.snapshot)
        await asyncio.to_thread(shutil.rmtree, upper)
        return code


async def test_a_step_that_cannot_be_kept_still_fails_with_its_own_error(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    executor = LosingExecutor(bench.store, bench.work / "roots")
    builder = Builder(bench.store, executor, bench.sources, bench.work / "cache")
    bench.builder = builder
    with pytest.raises(BuildStepFailed) as caught:
        await bench.build("FROM test.local/base:1\nRUN exit 5\n")
    assert (caught.value.exit_code, caught.value.step) == (5, "")
    assert "cannot be kept" in caplog.text
    assert await builder.kept.list() == []


async def past(bench: Bench, text: str) -> KeptStep:
    """A step that ended well, by the digits that the build showed."""
    return await bench.builder.find_step(bench.done()[text].result)


async def test_a_step_that_ended_well_can_be_entered_too(bench: Bench) -> None:
    (bench.context / "f").write_text("text")
    run = "RUN --mount=type=cache,id=k,target=/k --mount=type=secret,id=s echo made > log; echo c > /k/c"
    text = f"FROM test.local/base:1\nWORKDIR /work\nENV MODE=strict\nCOPY f .\n{run}\nUSER app\n"
    await bench.build(text)
    step = await past(bench, run)
    assert (step.failed, step.exit_code, step.cwd, step.withheld) == (
        False,
        0,
        "/work",
        ("secret mount /run/secrets/s",),
    )
    assert step.text == "RUN /bin/sh -c echo made > log; echo c > /k/c"
    assert await visit(bench, step, "cat log f /k/c; echo $MODE; echo changed > log") == (0, "made\ntextc\nstrict\n")
    assert await visit(bench, step, "cat f; cat log", before=True) == (
        1,
        "textcat: can't open 'log': No such file or directory\n",
    )
    assert await past(bench, "USER app") == step  # it configures only: the file system is that of the step before
    copied = await past(bench, "COPY f .")
    assert (copied.text, copied.cwd) == ("COPY f /work/", "/")
    assert await visit(bench, copied, "cat /work/f; ls /work") == (0, "textf\n")
    assert (await past(bench, "WORKDIR /work")).text == "WORKDIR /work"
    await bench.build(text)
    assert len(bench.executor.commands) == 4  # the build ran nothing beside the first build and three visits
    with pytest.raises(NotFound, match="no such step"):
        await bench.builder.kept.remove(step.reference)
    assert await bench.builder.kept.list() == []


async def test_a_cached_step_whose_file_system_is_gone(bench: Bench) -> None:
    await bench.build("FROM test.local/base:1\nRUN echo a > /a\nRUN echo b > /b\n")
    step = await past(bench, "RUN echo b > /b")
    below = bench.done()["RUN echo a > /a"].result
    assert (await bench.builder.find_step(f"step:{below}")).text == "RUN /bin/sh -c echo a > /a"
    await bench.store.images.remove((await bench.store.images.list())[0].id)
    await bench.store.db.write(lambda db: db.execute("DELETE FROM build_cache"))
    await bench.store.collect()
    with pytest.raises(NotFound, match=f"{step.reference}: its file system is gone"):
        await visit(bench, step, "true")
    with pytest.raises(NotFound, match="no such step"):
        await bench.builder.find_step(below)
    await bench.assert_nothing_left()


@pytest.mark.parametrize("reference", ["", "step:", "step:xyz", "container", "step:12 34"])
async def test_what_is_no_step(bench: Bench, reference: str) -> None:
    with pytest.raises(InvalidArgument, match="invalid step"):
        await bench.builder.kept.find(reference)


async def test_ambiguous_digits(bench: Bench) -> None:
    step = await fail(bench)
    twin = json.loads(await bench.store.db.read(lambda db: db.execute("SELECT document FROM kept_steps").fetchone()[0]))
    digits = step.key.partition(":")[2]
    other = digits[:10] + ("0" if digits[10] != "0" else "1") + digits[11:]
    await bench.store.snapshots.prepare("other", [])
    await bench.store.snapshots.commit("other")
    row = (other, json.dumps(twin | {"key": other}))
    query = "INSERT INTO kept_steps SELECT ?, id, 1.0, ? FROM snapshots WHERE key = 'other'"
    await bench.store.db.write(lambda db: db.execute(query, row))
    with pytest.raises(InvalidArgument, match="fits several steps"):
        await bench.builder.kept.find(step.id)
    assert await bench.builder.kept.find(digits[:11]) == step
