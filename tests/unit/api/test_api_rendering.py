"""Words and documents: durations, states, ports, HostConfig, history, build log."""

from __future__ import annotations

from typing import Any

import pytest
from api_fakes import CREATED, IMAGE_ID, make_container, make_image

from tare.api.buildlog import ClassicLog
from tare.api.schema.changes import config_from_changes
from tare.api.schema.container import render_inspect, render_summary, summary_ports
from tare.api.schema.images import render_history
from tare.api.schema.images import render_inspect as render_image
from tare.api.schema.images import render_summary as render_image_summary
from tare.api.wording import format_time, human_duration, parse_time, status_text
from tare.build.events import Notice, PlanMade, PlannedStep, VertexDone, VertexFailed, VertexOutput, VertexStarted
from tare.engine.requests import ImageSummary
from tare.errors import InvalidArgument
from tare.model.container import ContainerState, MountPoint, PortBinding

MINUTE, HOUR, DAY = 60, 3600, 86400


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "Less than a second"), (0.9, "Less than a second"), (1, "1 second"), (1.9, "1 second"),
        (59.9, "59 seconds"),
        (MINUTE, "About a minute"), (119, "About a minute"), (2 * MINUTE, "2 minutes"), (59 * MINUTE, "59 minutes"),
        (HOUR, "About an hour"), (89 * MINUTE, "About an hour"), (90 * MINUTE, "2 hours"), (47 * HOUR, "47 hours"),
        (2 * DAY, "2 days"), (13 * DAY, "13 days"), (14 * DAY, "2 weeks"), (59 * DAY, "8 weeks"),
        (60 * DAY, "2 months"),
        (729 * DAY, "24 months"), (730 * DAY, "2 years"), (-5, "Less than a second"),
    ],
)  # fmt: skip
def test_human_duration(seconds: float, text: str) -> None:
    assert human_duration(seconds) == text


def test_times() -> None:
    assert parse_time("") == parse_time("0001-01-01T00:00:00Z") == 0.0
    assert parse_time("1970-01-01T00:00:01.5Z") == 1.5
    assert parse_time("1970-01-01T01:00:01.123456789+01:00") == 1.123456
    assert format_time(1.5) == "1970-01-01T00:00:01.500000Z"


@pytest.mark.parametrize(
    ("state", "text"),
    [
        (ContainerState(), "Created"),
        (ContainerState(status="running", started_at=CREATED), "Up 5 seconds"),
        (ContainerState(status="paused", started_at=CREATED), "Up 5 seconds (Paused)"),
        (ContainerState(status="exited", exit_code=3, finished_at=CREATED), "Exited (3) 5 seconds ago"),
        (ContainerState(status="restarting", exit_code=1, finished_at=CREATED), "Restarting (1) 5 seconds ago"),
        (ContainerState(status="removing"), "Removal In Progress"),
        (ContainerState(status="dead"), "Dead"),
    ],
)
def test_status_text(state: ContainerState, text: str) -> None:
    assert status_text(state, parse_time(CREATED) + 5) == text


def test_summary_ports() -> None:
    bindings = [PortBinding(host_ip="127.0.0.1", host_port="8080"), PortBinding(host_ip="", host_port="81")]
    assert summary_ports({"80/tcp": bindings, "53/udp": None, "9/tcp": []}) == [
        {"IP": "127.0.0.1", "PrivatePort": 80, "Type": "tcp", "PublicPort": 8080},
        {"IP": "0.0.0.0", "PrivatePort": 80, "Type": "tcp", "PublicPort": 81},
        {"PrivatePort": 53, "Type": "udp"},
        {"PrivatePort": 9, "Type": "tcp"},
    ]


def test_inspect_has_every_part() -> None:
    mounts = [
        MountPoint(type="bind", source="/a", destination="/b", mode="ro", rw=False, propagation="rprivate"),
        MountPoint(type="volume", source="/v/_data", destination="/d", name="v", driver="local", mode="z"),
    ]
    document = render_inspect(make_container(mounts=mounts), {}, {}, extra={"LogPath": "/log"}, sizes=(1, 2))
    assert (document["SizeRw"], document["SizeRootFs"], document["LogPath"]) == (1, 2, "/log")
    assert document["Mounts"][0] == {
        "Type": "bind", "Source": "/a", "Destination": "/b", "Mode": "ro", "RW": False, "Propagation": "rprivate",
    }  # fmt: skip
    assert document["Mounts"][1]["Name"] == "v"
    host = document["HostConfig"]
    assert (host["PortBindings"], host["Dns"], host["BlkioDeviceReadBps"], host["CapAdd"]) == ({}, [], [], None)
    assert host["LogConfig"]["Config"] == {}
    assert document["NetworkSettings"]["IPAddress"] == ""
    assert document["Config"]["Labels"] == {}
    assert "Healthcheck" not in document["Config"]


def test_inspect_of_a_stopped_container_has_no_process() -> None:
    state = ContainerState(status="exited", pid=42, exit_code=137, oom_killed=True)
    rendered = render_inspect(make_container(state=state), {}, {}, extra={})["State"]
    assert (rendered["Pid"], rendered["Running"], rendered["OOMKilled"], rendered["ExitCode"]) == (0, False, True, 137)


def test_summary_command_is_quoted() -> None:
    container = make_container(path="sh", args=["-c", "echo a b"])
    assert render_summary(container, {}, {}, now=0)["Command"] == "sh -c 'echo a b'"


def test_history_names_only_the_newest_step() -> None:
    image = make_image()
    step = image.config.history[0]
    newest, oldest = render_history([image], [(step, 5), (step, 0)])  # type: ignore[arg-type]
    assert (newest["Id"], newest["Tags"], newest["Size"]) == (
        f"sha256:{IMAGE_ID}",
        ["app:1", "tare.local/debian:12"],
        5,
    )
    assert (oldest["Id"], oldest["Tags"], oldest["Comment"]) == ("<missing>", None, "made here")


def test_history_names_the_steps_of_parents() -> None:
    step = make_image().config.history[0]
    steps = render_history([make_image(), make_image()], [(step, 5), (step, 0), (step, 1)])  # type: ignore[list-item]
    assert [item["Id"] for item in steps] == [f"sha256:{IMAGE_ID}", f"sha256:{IMAGE_ID}", "<missing>"]


@pytest.mark.parametrize(
    ("version", "members"),
    [
        ((1, 51), set()),
        ((1, 50), set()),
        ((1, 49), {"Hostname", "Tty"}),
        ((1, 44), {"Hostname", "Tty", "ContainerConfig"}),
        ((1, 43), {"Hostname", "Tty", "ContainerConfig", "VirtualSize"}),
    ],
)
def test_what_older_clients_get_of_an_image(version: tuple[int, int], members: set[str]) -> None:
    document = render_image(make_image(), "", version)  # type: ignore[arg-type]
    old = {"Hostname", "Tty", "ContainerConfig", "VirtualSize"}
    assert (document.keys() | document["Config"].keys()) & old == members
    assert document["Config"].items() >= {"Cmd": ["sh"], "Entrypoint": None, "Env": ["A=b"], "Volumes": None}.items()


def test_summaries_of_images_by_version() -> None:
    summary = ImageSummary(id="sha256:1", tags=(), digests=(), created=None, size=7, labels=None, containers=2)
    newest, older, oldest = (render_image_summary(summary, version) for version in ((1, 51), (1, 50), (1, 42)))
    assert (newest["Containers"], older["Containers"]) == (2, -1)
    assert (newest["RepoTags"], newest["RepoDigests"], newest["Labels"]) == ([], [], None)
    assert (oldest["RepoTags"], oldest["RepoDigests"]) == (["<none>:<none>"], ["<none>@<none>"])
    assert ("VirtualSize" in newest, oldest["VirtualSize"]) == (False, 7)


def test_changes_of_an_import() -> None:
    config = config_from_changes(
        [
            'CMD ["a", "b"]',
            "ENTRYPOINT run it",
            'ENV A="b c" D=e',
            "EXPOSE 80 53/udp",
            "USER me",
            "WORKDIR /w",
            "LABEL x=y",
        ]
    )
    assert (config.cmd, config.entrypoint) == (["a", "b"], ["/bin/sh", "-c", "run it"])
    assert (config.env, config.labels) == (["A=b c", "D=e"], {"x": "y"})
    assert (config.exposed_ports, config.user, config.working_dir) == ({"80/tcp": {}, "53/udp": {}}, "me", "/w")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("RUN x", "RUN is not a valid change"),
        ("nope", "nope is not a valid change"),
        (" ", "file with no instructions"),
        ("ENV a", "^ENV must have two arguments"),
        ("EXPOSE x", "Invalid containerPort: x"),
        ("STOPSIGNAL x", "invalid signal: x"),
    ],
)
def test_changes_that_do_not_fit(change: str, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        config_from_changes([change])


def test_workdirs_of_changes_stand_on_each_other() -> None:
    assert (
        config_from_changes(["WORKDIR a", "WORKDIR $B", "WORKDIR ../d"], ["B=b/c"], "/root").working_dir
        == "/root/a/b/d"
    )
    assert config_from_changes(["WORKDIR a"]).working_dir == "/a"
    assert config_from_changes(["EXPOSE 80-81/udp"]).exposed_ports == {"80/udp": {}, "81/udp": {}}


def plan(*texts: str) -> PlanMade:
    return PlanMade(
        tuple(
            PlannedStep(id=text, index=number, total=len(texts), stage="s", name=text, text=text, layered=True)
            for number, text in enumerate(texts, 1)
        )
    )


def done(name: str, *, cached: bool = False) -> VertexDone:
    return VertexDone(id=name, index=0, cached=cached, seconds=0, bytes=0, result=f"sha256:{name.lower() * 64}")


def log_of(*events: Any, quiet: bool = False) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    log = ClassicLog(messages.append, quiet=quiet)
    for event in events:
        log.observe(event)
    return messages


def text_of(*events: Any) -> str:
    return "".join(message.get("stream", "") for message in log_of(*events))


def test_steps_that_run_side_by_side_are_told_in_order() -> None:
    text = text_of(
        plan("A", "B"),
        VertexStarted("B", "B", "s", 2),
        VertexOutput("B", "stdout", b"from b\n"),
        VertexStarted("A", "A", "s", 1),
        done("B"),
        VertexOutput("A", "stdout", b"from a\n"),
        done("A"),
    )
    a, b = "a" * 12, "b" * 12
    assert text == f"Step 1/2 : A\nfrom a\n ---> {a}\nStep 2/2 : B\nfrom b\n ---> {b}\n"


def test_a_failed_step_is_told_out_of_turn() -> None:
    text = text_of(
        plan("A", "B"),
        VertexStarted("A", "A", "s", 1),
        VertexStarted("B", "B", "s", 2),
        VertexOutput("B", "stderr", b"broken\n"),
        VertexFailed("B", 2, "exit code 1"),
    )
    assert text == "Step 1/2 : A\nStep 2/2 : B\nbroken\n"


def test_characters_cut_in_two_are_put_together() -> None:
    data = "grüße".encode()
    events = [
        VertexOutput("A", "stdout", data[:3]),
        VertexOutput("A", "stdout", data[3:5]),
        VertexOutput("A", "stdout", data[5:]),
    ]
    assert text_of(plan("A"), *events) == "grüße"


def test_notices() -> None:
    messages = log_of(plan("A"), Notice("fetching", id="base:1"), Notice("mind the gap"), Notice("slow", id="A"))
    assert messages == [
        {"status": "fetching", "id": "base:1"}, {"stream": "mind the gap\n"}, {"stream": "slow\n"},
    ]  # fmt: skip
    assert log_of(plan("A"), Notice("fetching", id="base:1"), Notice("slow", id="A"), quiet=True) == []
    (moving,) = log_of(Notice("Downloading", id="aa", current=1, total=2))
    assert (moving["status"], moving["id"], moving["progressDetail"]) == (
        "Downloading",
        "aa",
        {"current": 1, "total": 2},
    )
