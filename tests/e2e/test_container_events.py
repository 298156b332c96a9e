"""The events of commands, as Docker 28.5.2 gives them for the same commands."""

from __future__ import annotations

import json
import socket
import time

import docker as docker_py
import pytest

from engine_process import EngineProcess

pytestmark = [pytest.mark.root, pytest.mark.e2e]

VOLATILE = ("image", "name", "execID", "imageID", "execDuration")


class Recording:
    """What the engine says of one container, its image and volume from now on."""

    def __init__(self, host: EngineProcess, *marks: str) -> None:
        self._host = host
        self._marks = marks
        self._since = time.time()

    def take(self) -> list[str]:
        """The events since the last call, in the form ``type action attribute=value``."""
        until = time.time()
        listed = self._host.docker(
            "events", "--since", f"{self._since:.9f}", "--until", f"{until:.9f}", "--format", "{{json .}}"
        )
        self._since = until
        events = [json.loads(line) for line in listed.stdout.splitlines()]
        return [_shown(event) for event in events if any(mark in json.dumps(event) for mark in self._marks)]


def _shown(event: dict[str, object]) -> str:
    actor = event["Actor"]
    assert isinstance(actor, dict)
    kept = {name: value for name, value in sorted(actor["Attributes"].items()) if name not in VOLATILE}
    kept.pop("container", None)
    return " ".join([f"{event['Type']} {event['Action']}", *(f"{name}={value}" for name, value in kept.items())])


def test_the_life_of_a_container(host: EngineProcess) -> None:
    recorded = Recording(host, "told")
    host.docker("volume", "create", "toldvolume")
    host.docker("create", "--name", "told", "-l", "a=b", "-v", "toldvolume:/v:ro", "busybox", "sleep", "1000")
    container = host.text("inspect", "-f", "{{.Id}}", "told")
    recorded = Recording(host, "told", container)
    host.docker("start", "told")
    assert recorded.take() == [
        "volume mount destination=/v driver=local propagation= read/write=false",
        "network connect type=bridge",
        "container start a=b",
    ]
    host.docker("exec", "told", "echo", "a b", "c")
    host.docker("exec", "told", "true")
    host.docker("exec", "told", "nosuch", check=False)
    assert recorded.take() == [
        "container exec_create: echo a b c a=b",
        "container exec_start: echo a b c a=b",
        "container exec_die a=b exitCode=0",
        "container exec_create: true  a=b",
        "container exec_start: true  a=b",
        "container exec_die a=b exitCode=0",
        "container exec_create: nosuch  a=b",
        "container exec_start: nosuch  a=b",
    ]
    assert b"unable to find user ghost" in host.docker("exec", "-u", "ghost", "told", "true", check=False).stderr
    assert recorded.take() == []
    for command in (("top",), ("pause",), ("unpause",), ("update", "--restart", "no"), ("logs",), ("diff",)):
        host.docker(*command, "told")
    host.docker("rename", "told", "toldagain")
    host.docker("rename", "toldagain", "told")
    host.docker("cp", "/etc/hostname", "told:/tmp/name")
    host.docker("cp", "told:/tmp/name", "-")
    host.docker("export", "told")
    assert recorded.take() == [
        "container top a=b",
        "container pause a=b",
        "container unpause a=b",
        "container update a=b",
        "container rename a=b oldName=/told",
        "container rename a=b oldName=/toldagain",
        "container extract-to-dir a=b",
        "container archive-path a=b",
        "container export a=b",
    ]
    host.docker("restart", "-t", "0", "told")
    ended = ["network disconnect type=bridge", "volume unmount driver=local", "container die a=b exitCode=137"]
    begun = ["volume mount destination=/v driver=local propagation= read/write=false", "network connect type=bridge"]
    killed = ["container kill a=b signal=15", "container kill a=b signal=9"]
    stop = "container stop a=b"  # Docker's comes before or after the end, as it happens
    assert recorded.take() == [*killed, *ended, stop, *begun, "container start a=b", "container restart a=b"]
    host.docker("kill", "told")
    host.docker("rm", "told")  # at once: a kill has waited for the end
    host.docker("volume", "rm", "toldvolume")
    assert recorded.take() == [killed[1], *ended, "container destroy a=b", "volume destroy driver=local"]


def test_images_have_their_labels_in_their_events(host: EngineProcess) -> None:
    host.docker("create", "--name", "told", "-l", "a=b", "busybox", "true")
    recorded = Recording(host, '"a": "b"')
    image = host.text("commit", "told", "toldimage:1")
    host.docker("tag", image, "toldimage:2")
    host.docker("rmi", "toldimage:1", "toldimage:2")
    assert recorded.take() == [
        "image create a=b",
        "image tag a=b",
        "container commit a=b comment= imageRef=toldimage:1",
        "image tag a=b",
        "image untag a=b",
        "image untag a=b",
    ]


def test_attaching_and_detaching(host: EngineProcess, client: docker_py.DockerClient) -> None:
    host.docker("run", "-dit", "--name", "told", "busybox", "cat")
    recorded = Recording(host, "told")
    attached = client.api.attach_socket("told", {"stdin": 1, "stdout": 1, "stream": 1, "detachKeys": "a,b"})
    stream: socket.socket = attached._sock
    stream.settimeout(30)
    stream.sendall(b"ab")
    assert stream.recv(4096) == b""
    stream.close()
    client.api.resize("told", 20, 30)
    assert recorded.take() == ["container attach", "container detach", "container resize height=20 width=30"]
    attached._response.close()
    attached.close()


def test_an_exec_shows_its_detach_keys(host: EngineProcess, client: docker_py.DockerClient) -> None:
    host.docker("run", "-d", "--name", "told", "busybox", "sleep", "1000")

    def keys(text: str) -> str:
        made = client.api.exec_create("told", "cat", tty=True, detach_keys=text or None)["Id"]
        return str(client.api.exec_inspect(made)["DetachKeys"])

    assert (keys("ctrl-a,b"), keys("")) == ("AWI=", "")  # their bytes in base 64
