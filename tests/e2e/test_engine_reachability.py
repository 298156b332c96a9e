"""The login, logout and payment scene with real packets, through both command lines; and what is said about it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from engine_process import Completed, EngineProcess

pytestmark = [pytest.mark.root, pytest.mark.e2e]

Command = Callable[..., Completed]
SERVE = ("busybox", "sh", "-c", "mkdir /www; echo hello > /www/index.html; exec httpd -f -p 80 -h /www")
SLEEP = ("busybox", "sleep", "1000")
STRAY = "table inet tare-test-stray { chain output { type filter hook output priority 0; ip daddr %s drop\n}\n}\n"
SERVING = "until wget -q -O /dev/null http://127.0.0.1/; do :; done"
LINKS = "for one in /sys/class/net/*; do echo ${one##*/}; done"


def start_scene(command: Command, prefix: str) -> None:
    """The scene with one of the command lines; ``prefix`` keeps names apart."""
    command("network", "create", f"{prefix}bank")
    command("run", "-d", "--name", f"{prefix}login", "-p", "127.0.0.1::80", *SERVE)
    command("run", "-d", "--name", f"{prefix}logout", *SERVE)
    command("run", "-d", "--name", f"{prefix}payment", "--network", f"{prefix}bank", *SERVE)
    command("run", "-d", "--name", f"{prefix}monitor", "--network", "host", *SLEEP)
    for name in ("login", "logout", "payment"):
        command("exec", f"{prefix}{name}", "timeout", "10", "sh", "-c", SERVING)


def end_scene(command: Command, prefix: str) -> None:
    command("rm", "-f", *(f"{prefix}{name}" for name in ("login", "logout", "payment", "monitor")))
    command("network", "rm", f"{prefix}bank")


@pytest.fixture(params=["tare", "docker"])
def command(request: pytest.FixtureRequest, host: EngineProcess) -> Iterator[Command]:
    """The scene, made and asked about through one command line."""
    used: Command = getattr(host, request.param)
    start_scene(used, "")
    yield used
    end_scene(used, "")


@pytest.fixture(scope="module")
def scene(own: EngineProcess) -> Iterator[EngineProcess]:
    """The scene in an engine of the module's own."""
    start_scene(own.docker, "")
    yield own
    end_scene(own.docker, "")


def address(command: Command, name: str, network: str) -> str:
    template = f'{{{{(index .NetworkSettings.Networks "{network}").IPAddress}}}}'
    return command("inspect", "-f", template, name).stdout.decode().strip()


def pings(command: Command, name: str, target: str) -> bool:
    return command("exec", name, "ping", "-c", "1", "-W", "1", target, check=False).returncode == 0


def fetches(command: Command, name: str, target: str) -> bool:
    fetch = ("timeout", "1", "wget", "-q", "-O", "-", f"http://{target}/")
    return command("exec", name, *fetch, check=False).stdout == b"hello\n"


def test_login_and_logout_reach_each_other_and_payment_nobody(command: Command) -> None:
    login, logout = address(command, "login", "bridge"), address(command, "logout", "bridge")
    payment = address(command, "payment", "bank")
    assert login.rpartition(".")[0] == logout.rpartition(".")[0] != payment.rpartition(".")[0]
    for name, other in (("login", logout), ("logout", login)):
        assert pings(command, name, other)
        assert fetches(command, name, other)
        assert not pings(command, name, payment)
        assert not fetches(command, name, payment)
        assert not pings(command, "payment", other)
        assert not fetches(command, "payment", other)


def test_a_container_on_the_hosts_network_has_the_hosts_interfaces_and_no_address(command: Command) -> None:
    inside = command("exec", "monitor", "sh", "-c", LINKS).stdout.decode().split()
    outside = subprocess.run(["sh", "-c", LINKS], capture_output=True, text=True, check=True).stdout.split()
    ours = {name for name in outside if re.match(r"lo|eth\d", name)}  # others come and go while tests run
    assert ours
    assert ours <= set(inside)
    assert address(command, "monitor", "host") == ""
    assert pings(command, "monitor", address(command, "payment", "bank"))


def asked(engine: EngineProcess, *words: str) -> tuple[int, dict[str, object]]:
    done = engine.tare("network", "explain", *words, "--format", "json", check=False)
    return done.returncode, json.loads(done.stdout)


@pytest.mark.parametrize(
    ("words", "verdict", "status"),
    [
        (("login", "logout"), "reachable", 0),
        (("login", "logout", "80"), "reachable", 0),
        (("login", "logout", "81"), "refused", 1),
        (("login", "payment", "80/tcp"), "dropped", 1),
        (("payment", "login"), "dropped", 1),
        (("host", "payment", "80"), "reachable", 0),
        (("monitor", "payment", "80"), "reachable", 0),
        (("outside", "payment", "80"), "dropped", 1),
        (("login", "outside", "443"), "reachable", 0),
    ],
)
def test_explain(scene: EngineProcess, words: tuple[str, ...], verdict: str, status: int) -> None:
    assert asked(scene, *words) == (status, asked(scene, *words)[1])
    assert asked(scene, *words)[1]["verdict"] == verdict


def test_explain_names_the_rule_and_the_remedy_and_the_remedy_works(scene: EngineProcess) -> None:
    said = scene.tare("network", "explain", "login", "payment", "80", check=False).stdout.decode()
    assert "login does not reach payment" in said
    assert "networks are isolated from each other" in said
    assert "  tare network connect bank login\n" in said
    scene.tare("network", "connect", "bank", "login")
    try:
        assert asked(scene, "login", "payment", "80")[0] == 0
        assert fetches(scene.docker, "login", address(scene.docker, "payment", "bank"))
    finally:
        scene.tare("network", "disconnect", "bank", "login")


def test_explain_with_a_published_port(scene: EngineProcess) -> None:
    port = scene.text("port", "login", "80/tcp").rpartition(":")[2]
    status, answer = asked(scene, "host", "127.0.0.1", port)
    decided = [hop["decision"] for hop in answer["hops"]]  # type: ignore[attr-defined]
    assert status == 0
    assert f"dnat to {address(scene.docker, 'login', 'bridge')}:80" in decided
    assert asked(scene, "outside", "login", "80")[1]["verdict"] == "dropped"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("login", "ghost"), "no running container is called ghost (name a running container, host, outside, or an"),
        (("login", "logout", "http"), "invalid port http: 'http' is not in 1-65535"),
        (("login", "stopped"), "container stopped is not running: it has no address (start it first: tare start"),
    ],
)
def test_questions_that_have_no_answer(scene: EngineProcess, words: tuple[str, ...], said: str) -> None:
    scene.docker("create", "--name", "stopped", *SLEEP)
    try:
        done = scene.tare("network", "explain", *words, check=False)
    finally:
        scene.docker("rm", "stopped")
    assert done.returncode == 1
    assert said in done.stderr.decode()


def test_verify_agrees_with_real_sockets_and_finds_what_others_have_forbidden(scene: EngineProcess) -> None:
    proof = json.loads(scene.tare("network", "verify", "--format", "json").stdout)
    assert proof["agreed"] is True
    pairs = {(one["from"], one["to"]): one["observed"] for one in proof["results"] if not one["published"]}
    assert pairs["login", "logout"] == "reachable"
    assert pairs["login", "payment"] == pairs["payment", "logout"] == "dropped"
    assert {one["protocol"] for one in proof["results"]} == {"tcp", "udp", "icmp"}

    # a table of somebody else's, of which the engine knows nothing
    stray = STRAY % address(scene.docker, "payment", "bank")
    subprocess.run(["nft", "-f", "-"], input=stray, text=True, check=True)
    try:
        done = scene.tare("network", "verify", "payment", check=False)
    finally:
        subprocess.run(["nft", "delete", "table", "inet", "tare-test-stray"], check=True)
    said = done.stdout.decode()
    assert done.returncode == 1
    assert "WRONG" in said
    assert re.search(
        r"host -> payment at \S+ \(icmp\): predicted reachable \(payment answers\), observed dropped", said
    )
    assert scene.tare("network", "verify", "payment").stdout.decode().endswith("as predicted\n")


def test_verify_leaves_nothing_behind(scene: EngineProcess) -> None:
    def sockets() -> str:
        return scene.text("exec", "login", "sh", "-c", "cat /proc/net/tcp /proc/net/udp /proc/net/raw | wc -l")

    def descriptors() -> int:
        count = 0
        for path in Path(f"/proc/{scene.pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                count += "socket" in os.readlink(path)
        return count

    scene.tare("network", "verify")  # what is made on first use is there now
    before, open_sockets = sockets(), descriptors()
    scene.tare("network", "verify")
    assert sockets() == before
    deadline = time.monotonic() + 10  # connections of clients end in their own time
    while descriptors() > open_sockets and time.monotonic() < deadline:
        time.sleep(0.05)
    assert descriptors() <= open_sockets


def test_exposure(scene: EngineProcess) -> None:
    scene.docker("run", "-d", "--name", "open", "-p", "80", *SERVE)
    scene.docker("run", "-d", "--name", "raw", "--network", "host", *SLEEP)
    try:
        found = json.loads(scene.tare("exposure", "--json").stdout)["exposures"]
        table = scene.tare("exposure").stdout.decode()
    finally:
        scene.docker("rm", "-f", "open", "raw")
    risks = {(one["container"], one["scope"]): one["risk"] for one in found if one["port"]}
    assert risks["open", "outside"] == "published on every address of the host"
    assert risks["login", "host"] == ""
    bare = {one["container"]: one["risk"] for one in found if not one["port"]}
    assert set(bare) == {"monitor", "raw"}
    assert "uses the host's network" in bare["monitor"]
    assert re.search(r"0\.0\.0\.0:\d+ -> 80/tcp +anywhere +open +bridge +\w+ +! published on every address", table)
    assert re.search(r"127\.0\.0\.1:\d+ -> 80/tcp +this host +login +bridge +yes +-\n", table)


def test_the_graph_as_text_svg_and_json(scene: EngineProcess, tmp_path: Path) -> None:
    text = scene.tare("network", "graph", environ={"PYTHONIOENCODING": "utf-8"}).stdout.decode()
    assert re.search(r"├─ network bridge  \S+ \(gateway \S+\)\n", text)
    assert re.search(r"│  ├─ login   10\.\S+|│  ├─ login   1\S+", text)
    assert "network host  ! not isolated from the host" in text
    assert re.search(r"  login   → logout, host\n", text)
    ascii_only = scene.tare("network", "graph", environ={"PYTHONIOENCODING": "ascii"}).stdout
    assert b"|- network bridge" in ascii_only
    drawing = tmp_path / "graph.svg"
    scene.tare("network", "graph", "--format", "svg", "-o", str(drawing))
    words = [element.text for element in ElementTree.fromstring(drawing.read_text()).iter() if element.text]
    assert {"network bridge", "network bank", "login", "logout", "payment", "monitor"} <= set(words)
    assert "login reaches logout" in words
    assert "login does not reach payment" in words
    document = json.loads(scene.tare("network", "graph", "--format", "json").stdout)
    assert document["reaches"]["payment"] == ["host"]
    refused = scene.tare("network", "graph", "-o", str(tmp_path / "missing" / "graph.txt"), check=False)
    assert refused.returncode == 1
    assert b"cannot write" in refused.stderr
