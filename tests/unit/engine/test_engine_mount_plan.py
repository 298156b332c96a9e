"""What mount options ask for, row by row."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest

from tare.engine.mount_plan import PlannedMount, parse_bind, plan_mounts
from tare.errors import InvalidArgument
from tare.model.container import Container, ContainerConfig, HostConfig, MountPoint, MountRequest


def differences(mount: PlannedMount) -> dict[str, Any]:
    """The fields that are not the default's."""
    plain = asdict(PlannedMount(type="volume", source="", destination=""))
    return {name: value for name, value in asdict(mount).items() if value != plain[name]}


def plain_bind(source: str, destination: str, **more: Any) -> dict[str, Any]:
    """What ``--mount`` asks for: a missing source is not made."""
    return {"type": "bind", "propagation": "rprivate", "source": source, "destination": destination, **more}


def bind(source: str, destination: str, **more: Any) -> dict[str, Any]:
    common = {"type": "bind", "propagation": "rprivate", "create_source": True}
    return {**common, "source": source, "destination": destination, **more}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/data", {"destination": "/data"}),
        ("/data/", {"destination": "/data"}),
        ("/a/../b//c", {"destination": "/b/c"}),
        ("name:/data", {"mode": "z", "source": "name", "destination": "/data"}),
        ("na.me-1_x:/data", {"mode": "z", "source": "na.me-1_x", "destination": "/data"}),
        ("name:/data:ro", {"source": "name", "destination": "/data", "read_only": True, "mode": "ro"}),
        ("name:/data:rw", {"source": "name", "destination": "/data", "mode": "rw"}),
        ("name:/data:nocopy", {"source": "name", "destination": "/data", "copy_up": False, "mode": "nocopy"}),
        ("name:/data:z,ro", {"source": "name", "destination": "/data", "read_only": True, "mode": "z,ro"}),
        ("/src:/data", bind("/src", "/data")),
        ("/src/:/data", bind("/src", "/data")),
        ("/src/../x:/data", bind("/x", "/data")),
        ("/:/host", bind("/", "/host")),
        ("/src:/data:ro", bind("/src", "/data", read_only=True, mode="ro")),
        ("/src:/data:rslave", bind("/src", "/data", propagation="rslave", mode="rslave")),
        ("/src:/data:shared,ro", bind("/src", "/data", propagation="shared", read_only=True, mode="shared,ro")),
        ("/src:/data:cached", bind("/src", "/data", mode="cached")),
        ("/src:/data:", bind("/src", "/data")),
        ("/with space:/data", bind("/with space", "/data")),
        (":/data", {"destination": "/data"}),
    ],
)
def test_bind_grammar(text: str, expected: dict[str, Any]) -> None:
    found = differences(parse_bind(text))
    assert {"type": "volume", **found} == {"type": "volume", **expected}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "invalid mount path: '' mount path must be absolute|invalid volume specification: ''"),
        ("relative", "invalid mount path: 'relative' mount path must be absolute"),
        ("name:", "invalid volume specification: 'name:'"),
        ("name:relative", "mount path must be absolute"),
        ("/src:relative", "mount path must be absolute"),
        ("a:b:c:d", "invalid volume specification: 'a:b:c:d'"),
        ("/src:/data:what", "invalid mode: what"),
        ("/src:/data:ro,what", "invalid mode: ro,what"),
        ("/src:/data:ro,rw", "invalid mode: ro,rw"),
        ("/src:/data:nocopy", 'type "bind": field VolumeOptions must not be specified'),
        ("/src:/data:RO", "invalid mode: RO"),
        ("/src:/", "invalid mount config for type \"bind\": invalid specification: destination can't be '/'"),
        ("/", "destination can't be '/'"),
        ("/src:/a/..", "destination can't be '/'"),
        ("name:/data:shared", 'type "volume": field BindOptions must not be specified'),
    ],
)
def test_bind_grammar_refuses(text: str, words: str) -> None:
    with pytest.raises(InvalidArgument, match=words):
        parse_bind(text)


def request(**fields: Any) -> list[PlannedMount]:
    return plan_mounts(HostConfig(mounts=[MountRequest(**fields)]), (), (), {})


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"type": "bind", "source": "/s", "target": "/t"}, plain_bind("/s", "/t")),
        (
            {
                "type": "bind",
                "source": "/s",
                "target": "/t",
                "read_only": True,
                "bind_options": {"Propagation": "rshared"},
            },
            plain_bind("/s", "/t", read_only=True, propagation="rshared"),
        ),
        (
            {"type": "bind", "source": "/s", "target": "/t", "bind_options": {"CreateMountpoint": True}},
            bind("/s", "/t", create_source=True),
        ),
        ({"type": "volume", "source": "data", "target": "/t"}, {"source": "data", "destination": "/t", "mode": "z"}),
        ({"type": "volume", "target": "/t"}, {"destination": "/t", "mode": "z"}),
        (
            {
                "type": "volume",
                "source": "data",
                "target": "/t",
                "volume_options": {"NoCopy": True, "Subpath": "in/side"},
            },
            {"source": "data", "destination": "/t", "mode": "z", "copy_up": False, "subpath": "in/side"},
        ),
        (
            {
                "type": "volume",
                "target": "/t",
                "volume_options": {"Labels": {"a": "b"}, "DriverConfig": {"Name": "local", "Options": {"o": "v"}}},
            },
            {"destination": "/t", "mode": "z", "labels": {"a": "b"}, "driver": "local", "driver_options": {"o": "v"}},
        ),
        ({"type": "tmpfs", "target": "/t"}, {"type": "tmpfs", "destination": "/t"}),
        (
            {"type": "tmpfs", "target": "/t", "read_only": True, "tmpfs_options": {"SizeBytes": 4096, "Mode": 0o1777}},
            {"type": "tmpfs", "destination": "/t", "options": ("size=4096", "mode=1777", "ro")},
        ),
    ],
)
def test_mount_requests(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    (mount,) = request(**fields)
    assert {"type": "volume", **differences(mount)} == {"type": "volume", **expected}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (
            {"type": "bind", "source": "relative", "target": "/t"},
            'invalid mount config for type "bind".*must be absolute',
        ),
        ({"type": "bind", "target": "/t"}, "field Source must not be empty"),
        ({"type": "image", "target": "/t"}, "field Source must not be empty"),
        ({"type": "tmpfs", "source": "/s", "target": "/t"}, "field Source must not be specified"),
        ({"type": "tmpfs", "target": "/t", "tmpfs_options": {"Options": [["uid", "1"]]}}, "invalid option: uid"),
        ({"type": "bind", "source": "/s", "target": "/t", "volume_options": {}}, "VolumeOptions must not be specified"),
        (
            {"type": "bind", "source": "/s", "target": "/t", "bind_options": {"Propagation": "odd"}},
            "invalid propagation mode: odd",
        ),
        (
            {"type": "bind", "source": "/s", "target": "/t", "bind_options": {"IDMap": "uids=0-1"}},
            "invalid idmap 'uids=0-1'",
        ),
        (
            {"type": "volume", "source": "v1", "target": "/t", "volume_options": {"Subpath": "a/../../b"}},
            "subpath must be a relative path within the volume",
        ),
        (
            {"type": "volume", "target": "/t", "volume_options": {"Subpath": "a"}},
            "must not set Subpath when using anonymous volumes",
        ),
        ({"type": "bind", "source": "/s", "target": "t"}, "mount path must be absolute"),
        ({"type": "volume", "source": "v1", "target": ""}, "field Target must not be empty"),
        ({"type": "volume", "source": "v1", "target": "/"}, "destination can't be '/'"),
        ({"type": "npipe", "source": "x", "target": "/t"}, 'type "npipe": mount type unknown'),
        ({"target": "/t"}, 'type "": mount type unknown'),
    ],
)
def test_mount_requests_that_are_wrong(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidArgument, match=words):
        request(**fields)


def test_tmpfs_option() -> None:
    (mount,) = plan_mounts(HostConfig(tmpfs={"/run/": "size=1m,,mode=700"}), (), (), {})
    assert (mount.type, mount.destination, mount.options) == ("tmpfs", "/run", ("size=1m", "mode=700"))


def test_explicit_mounts_win_over_declared_volumes_and_parents_come_first() -> None:
    host = HostConfig(binds=["/h:/a/b/c", "name:/z"], tmpfs={"/a": ""})
    plan = plan_mounts(host, ["/a/b/c", "/q"], ["/q", "/a/b/"], {})
    assert [(mount.type, mount.destination) for mount in plan] == [
        ("tmpfs", "/a"), ("volume", "/q"), ("volume", "/z"), ("volume", "/a/b"), ("bind", "/a/b/c"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "host",
    [
        HostConfig(binds=["/a:/t", "/b:/t"]),
        HostConfig(binds=["/a:/t", "/b:/t/"]),
        HostConfig(binds=["/a:/t"], tmpfs={"/t": ""}),
        HostConfig(binds=["/a:/t"], mounts=[MountRequest(type="tmpfs", target="/t")]),
    ],
)
def test_two_mounts_at_one_place(host: HostConfig) -> None:
    with pytest.raises(InvalidArgument, match=r"^Duplicate mount point: /t$"):
        plan_mounts(host, (), (), {})


def other() -> Container:
    points = [
        MountPoint(type="bind", source="/h", destination="/b", rw=False, propagation="rprivate"),
        MountPoint(type="volume", source="/var/v/_data", name="v1", destination="/v", driver="local"),
        MountPoint(type="tmpfs", source="", destination="/t"),
    ]
    return Container(
        id="1", name="o", created="", image_id="", image_name="", path="x", args=[], config=ContainerConfig(),
        host_config=HostConfig(), networking={}, mounts=points,
    )  # fmt: skip


def test_volumes_from_takes_binds_and_volumes_as_they_are() -> None:
    plan = plan_mounts(HostConfig(volumes_from=["o"]), (), (), {"o": other()})
    assert [(mount.type, mount.source, mount.destination, mount.read_only, mount.copy_up) for mount in plan] == [
        ("bind", "/h", "/b", True, False),
        ("volume", "v1", "/v", False, False),
    ]


def test_volumes_from_read_only_and_overridden() -> None:
    host = HostConfig(volumes_from=["o:ro"], binds=["mine:/v"])
    plan = plan_mounts(host, (), (), {"o": other()})
    assert [(mount.source, mount.read_only) for mount in plan] == [("/h", True), ("mine", False)]
    with pytest.raises(InvalidArgument, match="invalid mode: what"):
        plan_mounts(HostConfig(volumes_from=["o:what"]), (), (), {"o": other()})
