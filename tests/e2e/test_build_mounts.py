"""RUN with mounts, secrets and agents, through Tare's command line."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine_process import Completed, EngineProcess

pytestmark = [pytest.mark.root, pytest.mark.e2e]

SECRET = "correct-horse-battery"


@pytest.fixture
def context(tmp_path: Path) -> Path:
    directory = tmp_path / "context"
    directory.mkdir()
    (directory / "page").write_text("page\n")
    (directory / "ignored").write_text("ignored\n")
    (directory / ".dockerignore").write_text("ignored\n")
    (tmp_path / "token").write_text(f"{SECRET}\n")
    return directory


def build(host: EngineProcess, context: Path, text: str, *options: str, check: bool = True) -> Completed:
    (context / "Dockerfile").write_text(f"FROM busybox\n{text}")
    return host.tare("build", "--progress", "plain", *options, str(context), check=check)


def said(done: Completed) -> list[str]:
    """What the steps printed."""
    lines = (line.partition(" ")[2] for line in done.stderr.decode().splitlines() if line.startswith("#"))
    return [line for line in lines if not line.startswith(("[", "DONE", "CACHED"))]


def test_secrets_are_files_and_variables_and_stay_nowhere(host: EngineProcess, context: Path) -> None:
    text = (
        "RUN --mount=type=secret,id=token --mount=type=secret,id=token,target=/etc/t,mode=0444,uid=7,gid=8 "
        "--mount=type=secret,id=token,env=TOKEN "
        "stat -c '%a %u %g' /run/secrets/token /etc/t; wc -c < /etc/t; echo $TOKEN | cmp - /etc/t && cat /etc/t; "
        "! touch /etc/t\n"
        "RUN ls -d /run /etc/t; true\n"
    )
    secret = f"id=token,src={context.parent / 'token'}"
    done = build(host, context, text, "--no-cache", "--secret", secret, "-t", "kept:1")
    assert said(done)[:3] == ["400 0 0", "444 7 8", "22"]
    assert "****" in said(done)
    assert SECRET.encode() not in done.stdout + done.stderr
    assert SECRET not in host.text("history", "--no-trunc", "kept:1") + host.text("inspect", "kept:1")
    assert SECRET not in host.log
    stored = [path for path in host.data_root.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]
    assert stored == []


def test_another_value_of_a_secret_keeps_the_step_cached(host: EngineProcess, context: Path) -> None:
    text = "RUN --mount=type=secret,id=token true\n"
    secret = f"id=token,src={context.parent / 'token'}"
    build(host, context, text, "--secret", secret)
    (context.parent / "token").write_text("another-value")
    assert b"CACHED" in build(host, context, text, "--secret", secret).stderr.split(b"RUN")[-1]


def test_a_required_secret_that_is_not_given(host: EngineProcess, context: Path) -> None:
    done = build(host, context, "RUN --mount=type=secret,id=token,required=true true\n", "--no-cache", check=False)
    assert done.returncode == 1
    assert b"secret token: not found" in done.stderr
    assert b"--secret id=token,src=FILE" in done.stderr
    assert b"Dockerfile:2" in done.stderr
    assert said(build(host, context, "RUN --mount=type=secret,id=no ls /run/secrets 2>&1 || echo none\n"))[-1] == "none"


def test_binds_are_read_only_or_thrown_away(host: EngineProcess, context: Path) -> None:
    text = (
        "RUN --mount=type=bind,target=/ro --mount=type=bind,target=/rw,rw --mount=type=bind,source=page,target=/f "
        "ls /ro; touch /ro/new 2>&1 | grep -o Read-only; echo x > /rw/new; ls /rw; cat /f\n"
        "RUN ls -d /ro /rw /f 2>/dev/null; echo end\n"
    )
    assert said(build(host, context, text, "--no-cache")) == [
        "Dockerfile", "page", "Read-only", "Dockerfile", "new", "page", "page", "end",
    ]  # fmt: skip
    assert sorted(path.name for path in context.iterdir()) == [".dockerignore", "Dockerfile", "ignored", "page"]


def test_binds_of_stages_and_missing_sources(host: EngineProcess, context: Path) -> None:
    text = "RUN mkdir /d && echo made > /d/x\nFROM busybox\nRUN --mount=from=0,source=/d,target=/m cat /m/x\n"
    assert said(build(host, context, text, "--no-cache")) == ["made"]
    done = build(host, context, "RUN --mount=target=/m,source=nothing true\n", check=False)
    assert b"nothing" in done.stderr
    assert b"Dockerfile:2" in done.stderr


def test_caches_keep_their_content_and_the_image_does_not(host: EngineProcess, context: Path) -> None:
    text = (
        "RUN --mount=type=cache,id=kept,target=/c echo x >> /c/lines; wc -l < /c/lines\nRUN ls /c 2>&1 || echo gone\n"
    )
    assert said(build(host, context, text, "--no-cache"))[0] == "1"
    again = said(build(host, context, text, "--no-cache"))
    assert again[0] == "2"
    assert again[-1] == "gone"


def test_who_owns_a_new_cache(host: EngineProcess, context: Path) -> None:
    text = (
        "RUN mkdir -p /owned && chown 5:6 /owned && chmod 750 /owned\n"
        "USER 7:8\n"
        "RUN --mount=type=cache,id=o1,target=/owned --mount=type=cache,id=o2,target=/new "
        "--mount=type=cache,id=o3,target=/said,uid=1,mode=0711 stat -c '%a %u:%g' /owned /new /said; touch /new/x\n"
    )
    assert said(build(host, context, text, "--no-cache"))[1:4] == ["750 5:6", "755 7:8", "711 1:8"]


def test_a_cache_begins_with_what_a_stage_has(host: EngineProcess, context: Path) -> None:
    text = (
        "RUN mkdir /d && echo first > /d/x\nFROM busybox\n"
        "RUN --mount=type=cache,id=filled,from=0,source=/d,target=/c cat /c/x; echo more >> /c/x\n"
    )
    assert said(build(host, context, text, "--no-cache")) == ["first"]
    assert said(build(host, context, text, "--no-cache")) == ["first", "more"]


@pytest.mark.parametrize(("sharing", "together"), [("private", ["1", "1"]), ("shared", ["2", "2"])])
def test_two_steps_share_a_cache_or_not(host: EngineProcess, context: Path, sharing: str, together: list[str]) -> None:
    """Both steps are in at the same time: each waits until it sees the other through a second, shared cache."""
    step = (
        f"RUN --mount=type=cache,id=c-{sharing},sharing={sharing},target=/c "
        f"--mount=type=cache,id=meet-{sharing},target=/m touch /c/NAME /m/NAME; "
        "n=0; while [ $(ls /m | wc -l) -lt 2 ] && [ $n -lt 200 ]; do n=$((n+1)); sleep 0.05; done; "
        "ls /c | wc -l; touch /m/seen-NAME; "
        "n=0; while [ $(ls /m | wc -l) -lt 4 ] && [ $n -lt 200 ]; do n=$((n+1)); sleep 0.05; done\n"
    )
    text = f"{step.replace('NAME', 'one')}FROM busybox AS two\n{step.replace('NAME', 'two')}"
    text += "RUN --mount=from=0,target=/x true\n"
    assert sorted(said(build(host, context, text, "--no-cache"))) == together


def test_locked_caches_are_used_one_after_the_other(host: EngineProcess, context: Path) -> None:
    step = (
        "RUN --mount=type=cache,id=locked,sharing=locked,target=/c "
        "test ! -e /c/busy; touch /c/busy; echo begin-NAME >> /c/order; sleep 0.3; echo end-NAME >> /c/order; "
        "rm /c/busy; cat /c/order\n"
    )
    text = f"{step.replace('NAME', 'a')}FROM busybox AS two\n{step.replace('NAME', 'b')}"
    text += "RUN --mount=from=0,target=/x true\n"
    order = said(build(host, context, text, "--no-cache"))[-4:]
    assert [line.partition("-")[0] for line in order] == ["begin", "end", "begin", "end"]


def test_tmpfs_with_a_size(host: EngineProcess, context: Path) -> None:
    text = "RUN --mount=type=tmpfs,target=/t,size=1m df -k /t | tail -1 | awk '{print $2}'\n"
    assert "1024" in said(build(host, context, text, "--no-cache"))


def test_a_script_with_an_interpreter(host: EngineProcess, context: Path) -> None:
    text = "RUN <<EOF\n#!/bin/cat\nfrom the script\nEOF\nRUN ls /dev/pipes 2>/dev/null || echo gone\n"
    assert said(build(host, context, text, "--no-cache")) == ["#!/bin/cat", "from the script", "gone"]


def test_entitlements(host: EngineProcess, context: Path) -> None:
    text = "RUN --security=insecure grep CapEff /proc/self/status\n"
    done = build(host, context, text, check=False)
    assert b"security.insecure is not allowed" in done.stderr
    powerful = said(build(host, context, text, "--no-cache", "--allow", "security.insecure"))[0]
    plain = said(build(host, context, text.replace("--security=insecure ", ""), "--no-cache"))[0]
    assert int(powerful.split()[1], 16) > int(plain.split()[1], 16) == 0xA80425FB


def test_limits_hosts_and_shared_memory(host: EngineProcess, context: Path) -> None:
    text = "RUN ulimit -n; grep -c tare.te /etc/hosts; grep gat /etc/hosts|wc -w; df /dev/shm | awk '/shm/{print $2}'\n"
    options = ("--ulimit", "nofile=77:88", "--add-host", "tare.test:10.1.2.3", "--add-host", "gate:host-gateway")
    assert said(build(host, context, text, "--no-cache", *options, "--shm-size", "8m")) == ["77", "1", "2", "8192"]


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A real agent with a fresh key."""
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "for a test", "-f", key], check=True)
    process = subprocess.Popen(["ssh-agent", "-D", "-a", "agent"], cwd=tmp_path, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline()
    environ = {"SSH_AUTH_SOCK": str(tmp_path / "agent"), "PATH": "/usr/bin:/bin"}
    subprocess.run(["ssh-add", "-q", key], env=environ, check=True)
    yield environ["SSH_AUTH_SOCK"], key
    process.terminate()
    process.communicate()


def test_an_agent_is_forwarded(host: EngineProcess, context: Path, agent: tuple[str, Path]) -> None:
    socket, key = agent
    ask = (
        "RUN --mount=type=ssh,mode=0606,uid=3 stat -c '%a %u' $SSH_AUTH_SOCK; echo $SSH_AUTH_SOCK; "
        "test -S /run/buildkit/ssh_agent.0\nRUN echo agent=$SSH_AUTH_SOCK; ls -d /run/buildkit 2>/dev/null; true\n"
    )
    for given in (f"default={socket}", f"default={key}"):
        done = build(host, context, ask, "--no-cache", "--ssh", given)
        assert said(done) == ["606 3", "/run/buildkit/ssh_agent.0", "agent="]
    done = build(host, context, "RUN --mount=type=ssh,required=true true\n", check=False)
    assert b"ssh agent default: not found" in done.stderr
    assert not list((host.data_root / "cache").rglob("ssh/*"))
