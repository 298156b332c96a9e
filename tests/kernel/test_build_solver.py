"""The builder on a real kernel: overlay snapshots, real commands."""

from __future__ import annotations

import asyncio
import io
import os
import tarfile
import threading

import pytest
from build_bench import Bench
from build_parts import BASE, make_base

from tare.build.events import Notice, PlanMade, VertexDone, VertexStarted
from tare.build.failures import BuildStepFailed
from tare.build.ops import layering
from tare.errors import InvalidArgument, NotFound
from tare.model import Reference

pytestmark = pytest.mark.root


async def test_multi_stage_build_ships_only_the_last_stage(bench: Bench) -> None:
    (bench.context / "main.c").write_text("source")
    result = await bench.build(
        "FROM test.local/base:1 AS build\nWORKDIR /src\nCOPY main.c .\nRUN cat main.c > out && echo done\n"
        'FROM test.local/base:1\nCOPY --from=build /src/out /app/out\nENV A=b\nCMD ["/app/out"]\n',
        tags=(Reference.parse("shop/app:1"), Reference.parse("shop/app:2")),
        labels={"who": "me"},
    )
    image = await bench.image(result)
    assert {tag.familiar() for tag in image.tags} == {"shop/app:1", "shop/app:2"}
    assert await bench.content(result, "app/out") == b"source"
    assert image.config.config.env == ["PATH=/bin", "A=b"]
    assert image.config.config.cmd == ["/app/out"]
    assert image.config.config.labels == {"who": "me"}
    assert len(image.diff_ids) == 2
    assert [entry.created_by for entry in image.config.history] == [
        "base",
        "COPY /src/out /app/out # buildkit",
        "ENV A=b",
        'CMD ["/app/out"]',
    ]
    assert [entry.empty_layer for entry in image.config.history] == [False, False, True, True]
    assert b"done\n" in bench.output()
    assert result.left_behind > 0
    assert {line.text: line.shipped for line in result.ledger}["RUN cat main.c > out && echo done"] is False


async def test_independent_stages_overlap_and_unneeded_ones_never_run(bench: Bench) -> None:
    meet = "while [ ! -e /meet/{other} ]; do sleep 0.01; done"
    text = (
        "FROM test.local/base:1 AS a\n"
        f"RUN --mount=type=cache,target=/meet touch /meet/a; {meet.format(other='b')}; touch /a\n"
        "FROM test.local/base:1 AS b\n"
        f"RUN --mount=type=cache,target=/meet touch /meet/b; {meet.format(other='a')}; touch /b\n"
        "FROM test.local/base:1 AS unneeded\nRUN exit 9\n"
        "FROM scratch\nCOPY --from=a /a /\nCOPY --from=b /b /\n"
    )
    result = await bench.build(text)
    assert bench.executor.most_running == 2
    assert len(bench.executor.commands) == 2
    assert len((await bench.image(result)).diff_ids) == 2


async def test_identical_steps_of_two_stages_run_once(bench: Bench) -> None:
    text = "FROM test.local/base:1 AS {0}\nRUN sleep 0.2; touch /x\n"
    await bench.build(text.format("a") + text.format("b") + "FROM scratch\nCOPY --from=a /x /1\nCOPY --from=b /x /2\n")
    assert len(bench.executor.commands) == 1


async def test_concurrent_builds_share_a_running_step_and_survive_each_others_end(bench: Bench) -> None:
    text = "FROM test.local/base:1\nRUN sleep 0.5; touch /shared\n"
    first = asyncio.create_task(bench.build(text))
    second = asyncio.create_task(bench.build(text))
    async with asyncio.timeout(10):
        while not bench.executor.commands:
            await asyncio.sleep(0.01)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    result = await second
    assert len(bench.executor.commands) == 1
    assert "shared" in await bench.layer(result)


async def test_second_build_is_cached_and_gives_the_same_image(bench: Bench) -> None:
    (bench.context / "f").write_text("1")
    text = "FROM test.local/base:1\nWORKDIR /w\nCOPY f .\nRUN echo $$ > when\n"
    first = await bench.build(text)
    second = await bench.build(text)
    assert second.image_id == first.image_id
    assert len(bench.executor.commands) == 1
    assert all(done.cached for done in bench.done().values())


async def test_no_cache_runs_everything_again(bench: Bench) -> None:
    text = "FROM test.local/base:1\nRUN echo $$ > /when\n"
    first = await bench.build(text)
    second = await bench.build(text, no_cache=True)
    assert first.image_id != second.image_id
    assert len(bench.executor.commands) == 2
    third = await bench.build(text)
    assert third.image_id == second.image_id


async def test_changing_one_file_reruns_only_what_depends_on_it(bench: Bench) -> None:
    (bench.context / "a").write_text("1")
    (bench.context / "b").write_text("1")
    text = (
        "FROM test.local/base:1 AS one\nCOPY a /a\nRUN cat /a > /oa\nFROM test.local/base:1 AS two\nCOPY b /b\n"
        "RUN cat /b > /ob\nFROM scratch\nCOPY --from=one /oa /\nCOPY --from=two /ob /\n"
    )
    await bench.build(text)
    bench.executor.commands.clear()
    (bench.context / "b").write_text("2")
    result = await bench.build(text)
    assert [argv[-1] for argv in bench.executor.commands] == ["cat /b > /ob"]
    done = bench.done()
    assert done["COPY --from=one /oa /"].cached
    assert not done["COPY --from=two /ob /"].cached
    assert await bench.content(result, "ob") == b"2"


async def test_a_rebuilt_stage_with_identical_output_keeps_what_follows_cached(bench: Bench) -> None:
    (bench.context / "f").write_text("comment 1")
    text = (
        "FROM test.local/base:1 AS gen\nCOPY f /f\nRUN echo same > /out\n"
        "FROM test.local/base:1\nCOPY --from=gen /out /out\nRUN cat /out > /copy\n"
    )
    first = await bench.build(text)
    (bench.context / "f").write_text("comment 2")
    second = await bench.build(text)
    commands = [argv[-1] for argv in bench.executor.commands]
    assert commands == [
        "echo same > /out",
        "cat /out > /copy",
        "echo same > /out",
    ]
    assert bench.done()["COPY --from=gen /out /out"].cached
    assert second.image_id == first.image_id


async def test_touching_a_file_changes_nothing(bench: Bench) -> None:
    (bench.context / "f").write_text("1")
    first = await bench.build("FROM scratch\nCOPY f /\n")
    (bench.context / "f").touch()
    second = await bench.build("FROM scratch\nCOPY f /\n")
    assert first.image_id == second.image_id


async def test_a_failing_run_says_what_and_where_and_leaves_nothing(bench: Bench) -> None:
    text = "FROM test.local/base:1\nRUN touch /ok\nRUN echo one; echo two >&2; exit 3\n"
    with pytest.raises(BuildStepFailed) as caught:
        await bench.build(text)
    error = caught.value
    assert error.message == (
        'process "/bin/sh -c echo one; echo two >&2; exit 3" did not complete successfully: exit code: 3'
    )
    assert error.exit_code == 3
    assert sorted(error.output) == ["one", "two"]
    assert "Dockerfile:3" in str(error)
    await bench.assert_nothing_left()
    bench.executor.commands.clear()
    with pytest.raises(BuildStepFailed):
        await bench.build(text)
    assert len(bench.executor.commands) == 1  # the step that ended well is known


async def test_a_failure_cancels_what_runs_beside_it(bench: Bench) -> None:
    text = (
        "FROM test.local/base:1 AS slow\nRUN sleep 1000\nFROM test.local/base:1 AS bad\nRUN sleep 0.2; exit 7\n"
        "FROM scratch\nCOPY --from=slow /x /\nCOPY --from=bad /y /\n"
    )
    async with asyncio.timeout(20):
        with pytest.raises(BuildStepFailed) as caught:
            await bench.build(text)
    assert caught.value.exit_code == 7


async def test_cancelling_leaves_nothing(bench: Bench) -> None:
    task = asyncio.create_task(bench.build("FROM test.local/base:1\nRUN echo started; sleep 1000\n"))
    async with asyncio.timeout(10):
        while b"started" not in bench.output():
            await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await bench.assert_nothing_left()


async def test_chown_by_name_and_chmod(bench: Bench) -> None:
    (bench.context / "f").write_text("1")
    layer = await bench.layer(await bench.build("FROM test.local/base:1\nCOPY --chown=app --chmod=640 f /new/dir/\n"))
    assert (layer["new/dir/f"].uid, layer["new/dir/f"].gid, layer["new/dir/f"].mode) == (1500, 1600, 0o640)
    assert (layer["new/dir"].uid, layer["new/dir"].mode) == (1500, 0o640)
    other = await bench.layer(await bench.build("FROM test.local/base:1\nCOPY --chown=app:staff f /x\n"))
    assert (other["x"].uid, other["x"].gid) == (1500, 50)
    with pytest.raises(NotFound, match=r"user 'nobody-here': no such entry in the image's /etc/passwd"):
        await bench.build("FROM test.local/base:1\nCOPY --chown=nobody-here f /x\n")


async def test_a_destination_behind_a_symbolic_link_is_written_where_it_leads(bench: Bench) -> None:
    tree = bench.context / "tree" / "lib"
    tree.mkdir(parents=True)
    (tree / "b.so").write_text("b")
    (bench.context / "a.so").write_text("a")
    result = await bench.build(
        "FROM test.local/base:1\nCOPY a.so /lib/\nCOPY tree/ /\nRUN cat /usr/lib/a.so /usr/lib/b.so /lib/a.so\n"
    )
    assert set(await bench.layer(result, 1)) == {"usr", "usr/lib", "usr/lib/a.so"}
    assert set(await bench.layer(result, 2)) == {"usr", "usr/lib", "usr/lib/b.so"}
    assert bench.output() == b"aba"


async def test_existing_directories_keep_their_metadata(bench: Bench) -> None:
    (bench.context / "f").write_text("1")
    layer = await bench.layer(await bench.build("FROM test.local/base:1\nCOPY f /tmp/\nCOPY f /root/f\n"), 1)
    assert layer["tmp"].mode == 0o1777


async def test_dockerignore_hides_files_and_explains_itself(bench: Bench) -> None:
    (bench.context / ".dockerignore").write_text("# rules\nnode_modules\n*.log\n!keep.log\n")
    for name in ("a.js", "x.log", "keep.log"):
        (bench.context / name).write_text(name)
    (bench.context / "node_modules" / "deep").mkdir(parents=True)
    (bench.context / "node_modules" / "deep" / "m.js").write_text("m")
    layer = await bench.layer(await bench.build("FROM scratch\nCOPY . /src/\n"))
    assert set(layer) == {"src", "src/.dockerignore", "src/a.js", "src/keep.log"}
    with pytest.raises(NotFound) as caught:
        await bench.build("FROM scratch\nCOPY x.log /\n")
    assert '"/x.log": excluded from the build context by .dockerignore:3 (*.log)' in str(caught.value)
    assert "^^^^^" in str(caught.value)


async def test_a_missing_source_is_named_with_its_line(bench: Bench) -> None:
    with pytest.raises(NotFound) as caught:
        await bench.build("FROM scratch\nCOPY nothing.txt /\n")
    assert '"/nothing.txt": not found in the build context' in str(caught.value)
    assert "2 | COPY nothing.txt /" in str(caught.value)
    with pytest.raises(NotFound, match=r'"/gone": not found in one'):
        await bench.build("FROM test.local/base:1 AS one\nFROM scratch\nCOPY --from=one /gone /\n")


async def test_links_never_lead_out_of_the_context(bench: Bench) -> None:
    secret = bench.work / "secret"
    secret.write_text("secret")
    (bench.context / "abs").symlink_to(secret)
    (bench.context / "up").symlink_to("../secret")
    for name in ("abs", "up", "../secret"):
        with pytest.raises(NotFound):
            await bench.build(f"FROM scratch\nCOPY {name} /stolen\n")
    layer = await bench.layer(await bench.build("FROM scratch\nCOPY . /all/\n"))
    assert layer["all/abs"].issym()


async def test_from_scratch_has_a_path_and_only_its_own_layer(bench: Bench) -> None:
    (bench.context / "f").write_text("1")
    image = await bench.image(await bench.build('FROM scratch\nCOPY f /\nENTRYPOINT ["/f"]\n'))
    assert len(image.diff_ids) == 1
    assert image.config.config.env == ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]
    assert image.config.config.working_dir == "/"
    assert bench.sources.asked == []


async def test_wildcards_directories_and_names(bench: Bench) -> None:
    for name in ("a.txt", "b.txt", "c.md", "sub/d.txt"):
        (bench.context / name).parent.mkdir(exist_ok=True)
        (bench.context / name).write_text(name)
    layer = await bench.layer(await bench.build("FROM scratch\nCOPY *.txt sub /out/\n"))
    assert set(layer) == {"out", "out/a.txt", "out/b.txt", "out/d.txt"}
    with pytest.raises(InvalidArgument, match="the destination must be a directory and end with a /"):
        await bench.build("FROM scratch\nCOPY a.txt b.txt /out\n")


async def test_stage_copies_keep_owners_links_and_modes(bench: Bench) -> None:
    result = await bench.build(
        "FROM test.local/base:1 AS a\n"
        "RUN mkdir /d; echo 1 > /d/f; /bin/busybox chown 1500:50 /d/f; chmod 4755 /d/f;"
        " /bin/busybox ln /d/f /d/g; /bin/busybox ln -s f /d/l\n"
        "FROM scratch\nCOPY --from=a /d /e\n"
    )
    layer = await bench.layer(result)
    assert (layer["e/f"].uid, layer["e/f"].gid, layer["e/f"].mode) == (1500, 50, 0o4755)
    assert layer["e/g"].islnk()
    assert layer["e/g"].linkname == "e/f"
    assert layer["e/l"].linkname == "f"


async def test_deleting_in_a_run_becomes_a_whiteout(bench: Bench) -> None:
    layer = await bench.layer(await bench.build("FROM test.local/base:1\nRUN rm /etc/group\n"))
    assert "etc/.wh.group" in layer


async def test_onbuild_triggers_run_in_the_child(bench: Bench) -> None:
    (bench.context / "f").write_text("1")
    tag = Reference.parse("test.local/trigger:1")
    await make_base(bench.store, on_build=["COPY f /from-trigger"], tag=tag)
    result = await bench.build("FROM test.local/trigger:1\n")
    assert "from-trigger" in await bench.layer(result)
    assert (await bench.image(result)).config.config.on_build is None


async def test_add_unpacks_archives_and_copy_does_not(bench: Bench) -> None:
    with tarfile.open(bench.context / "a.tgz", "w:gz") as archive:
        info = tarfile.TarInfo("lib/x")
        info.size = 2
        archive.addfile(info, io.BytesIO(b"xx"))
    result = await bench.build("FROM test.local/base:1\nADD a.tgz /\nCOPY a.tgz /\nRUN cat /usr/lib/x\n")
    assert bench.output() == b"xx"
    assert "usr/lib/x" in await bench.layer(result, 1)
    assert "a.tgz" in await bench.layer(result, 2)


async def test_bind_mounts_of_stage_and_context_are_part_of_the_key(bench: Bench) -> None:
    (bench.context / "in.txt").write_text("1")
    text = (
        "FROM test.local/base:1 AS tool\nRUN echo tool > /tool\nFROM test.local/base:1\n"
        "RUN --mount=type=bind,from=tool,source=/tool,target=/mnt/tool --mount=type=bind,source=in.txt,target=/mnt/in"
        " cat /mnt/tool /mnt/in > /out\n"
    )
    await bench.build(text)
    await bench.build(text)
    assert len(bench.executor.commands) == 2
    (bench.context / "in.txt").write_text("2")
    assert await bench.content(await bench.build(text), "out") == b"tool\n2"


async def test_arguments_proxies_and_unused_ones(bench: Bench) -> None:
    text = "FROM test.local/base:1\nARG A=1\nRUN echo $A $B $http_proxy\n"
    result = await bench.build(text, build_args={"A": "2", "B": "3", "http_proxy": "p"})
    assert bench.output() == b"2 p\n"
    warnings = [event.text for event in bench.events if isinstance(event, Notice)]
    assert warnings == ["[Warning] One or more build-args [B] were not consumed"]
    history = (await bench.image(result)).config.history[-1].created_by
    assert history == "RUN |1 A=2 /bin/sh -c echo $A $B $http_proxy # buildkit"
    await bench.build(text, build_args={"A": "2", "http_proxy": "another"})
    assert len(bench.executor.commands) == 1
    await bench.build(text, build_args={"A": "3"})
    assert len(bench.executor.commands) == 2


async def test_a_collected_result_is_a_miss(bench: Bench) -> None:
    text = "FROM test.local/base:1 AS a\nRUN echo 1 > /x\nFROM scratch\nCOPY --from=a /x /\n"
    await bench.build(text)
    await bench.store.db.write(lambda db: db.execute("DELETE FROM build_cache"))
    await bench.store.collect()
    await bench.build(text)
    assert len(bench.executor.commands) == 2


async def test_unknown_target_image_and_stage_cycle(bench: Bench) -> None:
    with pytest.raises(NotFound, match='target stage "nope" could not be found'):
        await bench.build("FROM scratch AS a\n", target="nope")
    with pytest.raises(NotFound, match="No such image"):
        await bench.build("FROM test.local/missing:1\n")
    with pytest.raises(InvalidArgument, match=r"circular dependency detected on stage: [ab]"):
        await bench.build("FROM scratch AS a\nCOPY --from=b /x /\nFROM scratch AS b\nCOPY --from=a /x /\n")
    assert BASE.familiar() not in bench.sources.asked


async def test_a_missing_mount_source_is_located(bench: Bench) -> None:
    text = "FROM test.local/base:1 AS a\nFROM test.local/base:1\nRUN --mount=type=bind,from=a,source=/no,target=/m ls\n"
    with pytest.raises(NotFound) as caught:
        await bench.build(text)
    assert "/no" in caught.value.message
    assert "Dockerfile:3" in caught.value.message


async def test_cancelling_a_copy_waits_for_its_thread(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    (bench.context / "f").write_text("1")
    entered, release = threading.Event(), threading.Event()
    original = layering.open_unchanged

    def slow(member: layering.Member) -> int:
        entered.set()
        assert release.wait(10)
        return original(member)

    monkeypatch.setattr(layering, "open_unchanged", slow)
    task = asyncio.create_task(bench.build("FROM test.local/base:1\nCOPY f /\n"))
    assert await asyncio.to_thread(entered.wait, 10)
    task.cancel()
    release.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    await bench.assert_nothing_left()
    assert list((bench.work / "data" / "staging").iterdir()) == []


async def test_views_of_a_killed_engine_are_undone(bench: Bench) -> None:
    view = bench.work / "cache" / "views" / "left"
    view.mkdir(parents=True)
    await bench.store.snapshots.view([], view)
    await bench.builder.recover()
    assert not view.exists()


async def test_files_reached_by_two_names_of_a_tag_are_one_source(bench: Bench) -> None:
    await bench.store.images.tag((await bench.store.images.resolve(BASE.familiar())).id, Reference.parse("again:1"))
    await bench.build("FROM test.local/base:1\nRUN echo x\n")
    await bench.build("FROM again:1\nRUN echo x\n")
    assert len(bench.executor.commands) == 1


async def test_exclude_hides_files_of_one_copy(bench: Bench) -> None:
    for name in ("a.txt", "b.md"):
        (bench.context / name).write_text(name)
    layer = await bench.layer(await bench.build("FROM scratch\nCOPY --exclude=*.md . /x/\n"))
    assert set(layer) == {"x", "x/a.txt"}


async def test_inline_files_are_expanded_unless_quoted(bench: Bench) -> None:
    text = "FROM test.local/base:1\nARG A=1\nCOPY <<one <<'two' /etc/x/\nv=$A\none\nv=$A\ntwo\n"
    await bench.build(f"{text}RUN cat /etc/x/one /etc/x/two\n")
    assert bench.output() == b"v=1\nv=$A\n"


async def test_a_stage_may_be_the_target_and_empty(bench: Bench) -> None:
    image = await bench.image(await bench.build("FROM test.local/base:1 AS a\nFROM a AS b\nENV X=1\n", target="a"))
    assert image.config.config.env == ["PATH=/bin"]
    assert image.diff_ids == (await bench.store.images.resolve(BASE.familiar())).diff_ids


async def test_run_without_changes_still_counts_as_a_layer(bench: Bench) -> None:
    image = await bench.image(await bench.build("FROM test.local/base:1\nRUN /bin/busybox true\nWORKDIR /tmp\n"))
    assert len(image.diff_ids) == 3
    assert image.diff_ids[1:] == (image.diff_ids[1],) * 2


async def test_cache_mounts_keep_their_content_and_leave_none_in_the_image(bench: Bench) -> None:
    text = (
        "FROM test.local/base:1\nRUN --mount=type=cache,target=/cache echo {0} >> /cache/log; cat /cache/log > /seen\n"
    )
    await bench.build(text.format(1))
    result = await bench.build(text.format(2))
    assert await bench.content(result, "seen") == b"1\n2\n"
    assert "cache/log" not in await bench.layer(result)


async def test_a_build_that_comes_while_the_same_step_is_being_cancelled_runs_it_anew(bench: Bench) -> None:
    text = "FROM test.local/base:1\nRUN sleep 0.4; touch /x\n"
    first = asyncio.create_task(bench.build(text))
    async with asyncio.timeout(10):
        while not bench.executor.commands:
            await asyncio.sleep(0.01)
    first.cancel()
    second = asyncio.create_task(bench.build(text))
    with pytest.raises(asyncio.CancelledError):
        await first
    assert "x" in await bench.layer(await second)


async def test_a_command_that_waits_for_its_turn_has_not_begun(bench: Bench) -> None:
    slots = max(2, os.cpu_count() or 1)
    count = 4 * slots
    stages = "".join(f"FROM test.local/base:1 AS s{number}\nRUN echo {number} > /out\n" for number in range(count))
    await bench.build(stages + "FROM scratch\n" + "".join(f"COPY --from=s{n} /out /{n}\n" for n in range(count)))
    (plan,) = (event for event in bench.events if isinstance(event, PlanMade))
    commands = {step.id for step in plan.vertices if step.text.startswith("RUN")}
    running = most = 0
    for event in bench.events:
        if isinstance(event, VertexStarted) and event.id in commands:
            running += 1
        elif isinstance(event, VertexDone) and event.id in commands:
            running -= 1
        most = max(most, running)
    assert bench.executor.most_running <= slots
    assert most <= 2 * slots, "the end of one may be told a little after the next has begun"
