from __future__ import annotations

from pathlib import Path

import pytest

from tare.cli.environment import read_env, read_labels
from tare.cli.filters import read_filters
from tare.cli.flags import read_restart
from tare.cli.mounts import read_exposed, read_mount, read_ports, read_tmpfs, read_volumes
from tare.cli.units import parse_moment, parse_size
from tare.errors import InvalidArgument, NotFound


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("80", {"80/tcp": [{"HostIp": "", "HostPort": ""}]}),
        ("8080:80", {"80/tcp": [{"HostIp": "", "HostPort": "8080"}]}),
        ("8080:80/udp", {"80/udp": [{"HostIp": "", "HostPort": "8080"}]}),
        ("127.0.0.1:8080:80", {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}]}),
        ("127.0.0.1::80", {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]}),
        ("[::1]:8080:80", {"80/tcp": [{"HostIp": "::1", "HostPort": "8080"}]}),
        ("8000-8010:80", {"80/tcp": [{"HostIp": "", "HostPort": "8000-8010"}]}),
        (
            "8000-8001:80-81",
            {"80/tcp": [{"HostIp": "", "HostPort": "8000"}], "81/tcp": [{"HostIp": "", "HostPort": "8001"}]},
        ),
    ],
)
def test_ports(text: str, expected: object) -> None:
    assert read_ports([text]) == expected


@pytest.mark.parametrize(
    "text",
    ["", "abc", "80:abc", "70000:80", "0:80", "127.0.0.1:80", "8000-8002:80-81", "80/icmp", "82-80", "1:2:3:4"],
)
def test_ports_refused(text: str) -> None:
    with pytest.raises(InvalidArgument):
        read_ports([text])


def test_one_container_port_at_two_places() -> None:
    assert [place["HostPort"] for place in read_ports(["1:80", "2:80"])["80/tcp"]] == ["1", "2"]


def test_exposed() -> None:
    assert set(read_exposed(["80", "90-91/udp"])) == {"80/tcp", "90/udp", "91/udp"}


def test_volumes() -> None:
    binds, anonymous = read_volumes(["data:/var/lib", "/a:/b:ro", "/anonymous"])
    assert binds == ["data:/var/lib", "/a:/b:ro"]
    assert anonymous == {"/anonymous": {}}


def test_relative_bind_source_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert read_volumes(["./x:/y"])[0] == [f"{tmp_path}/x:/y"]


@pytest.mark.parametrize("text", ["", "a:", "a:b", "relative", ":/x", "a:/b:ro:z"])
def test_volumes_refused(text: str) -> None:
    with pytest.raises(InvalidArgument):
        read_volumes([text])


def test_mount() -> None:
    assert read_mount("type=bind,src=/a,dst=/b,readonly") == {
        "Type": "bind", "Source": "/a", "Target": "/b", "ReadOnly": True,
    }  # fmt: skip
    assert read_mount("source=v,target=/b,readonly=false,volume-nocopy") == {
        "Type": "volume", "Source": "v", "Target": "/b", "ReadOnly": False, "VolumeOptions": {"NoCopy": True},
    }  # fmt: skip
    assert read_mount("type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=1770")["TmpfsOptions"] == {
        "SizeBytes": 1 << 20,
        "Mode": 0o1770,
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("type=bind,src=/a", "target is required"),
        ("bogus=1,dst=/a", "unexpected key 'bogus' in 'bogus=1'"),
        ("dst=/a,bogus", "invalid field 'bogus' must be a key=value pair"),
        ("dst=/a,ro=perhaps", "invalid value for ro: perhaps"),
        ("type=bind,src=/a,dst=/b,volume-nocopy", "cannot mix 'volume-*' options with mount type 'bind'"),
        ("src=a,dst=/b,bind-propagation=shared", "cannot mix 'bind-*' options with mount type 'volume'"),
        (
            "type=bind,src=/a,dst=/b,bind-recursive=odd",
            'invalid value for bind-recursive: odd (must be "enabled", "disabled", "writable", or "readonly")',
        ),
        (
            "type=bind,src=/a,dst=/b,bind-recursive=readonly",
            "option 'bind-recursive=readonly' requires 'readonly' to be specified in conjunction",
        ),
        (
            "type=bind,src=/a,dst=/b,ro,bind-recursive=readonly",
            "option 'bind-recursive=readonly' requires 'bind-propagation=rprivate' to be specified in conjunction",
        ),
        ("type=tmpfs,dst=/b,tmpfs-size=abc", "invalid value for tmpfs-size: abc"),
        ("type=tmpfs,dst=/b,tmpfs-mode=9", "invalid value for tmpfs-mode: 9"),
        ("type=tmpfs,dst=/b,idmap", "cannot mix 'idmap' with mount type 'tmpfs'"),
    ],
)
def test_mount_refused(text: str, words: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        read_mount(text)
    assert refused.value.message == f'invalid argument "{text}" for "--mount" flag: {words}'


def test_mount_options() -> None:
    assert read_mount("type=bind,src=/a,dst=/b,ro,bind-recursive=writable,bind-create-src,idmap=uids=0-1-2")[
        "BindOptions"
    ] == {"ReadOnlyNonRecursive": True, "CreateMountpoint": True, "IDMap": "uids=0-1-2"}
    assert read_mount("src=v,dst=/b,uid=5,mode=0700,volume-subpath=x,volume-opt=o=a,volume-driver=d,idmap")[
        "VolumeOptions"
    ] == {
        "DriverConfig": {"Options": {"uid": "5", "mode": "0700", "o": "a"}, "Name": "d"},
        "Subpath": "x",
        "IDMap": "",
    }
    assert read_mount("type=image,src=i,dst=/b,image-subpath=x")["ImageOptions"] == {"Subpath": "x"}


def test_tmpfs() -> None:
    assert read_tmpfs(["/a", "/b:size=1m,noexec"]) == {"/a": "", "/b": "size=1m,noexec"}


def test_environment(tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text("# comment\n\n  A=1\nB=x y # kept\nKNOWN\nUNKNOWN\n")
    known = {"KNOWN": "k", "HOME": "/root"}
    assert read_env(["C=3", "HOME", "NONE"], [str(file)], known) == [
        "A=1",
        "B=x y # kept",
        "KNOWN=k",
        "C=3",
        "HOME=/root",
    ]


def test_environment_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no such file"):
        read_env([], [str(tmp_path / "nothing")])
    bad = tmp_path / "bad"
    bad.write_text("A=1\nhas space=2\n")
    with pytest.raises(InvalidArgument, match=r"bad.: variable 'has space' contains whitespaces .line 2."):
        read_env([], [str(bad)])
    with pytest.raises(InvalidArgument, match="invalid environment variable: =x"):
        read_env(["=x"], [])


def test_labels() -> None:
    assert read_labels(["a=b=c", "flag"]) == {"a": "b=c", "flag": ""}


def test_filters() -> None:
    assert read_filters(["status=exited", "status=created", "label=a=b"]) == {
        "status": ["exited", "created"],
        "label": ["a=b"],
    }
    with pytest.raises(InvalidArgument, match="bad format of filter"):
        read_filters(["status"])


@pytest.mark.parametrize(
    ("text", "size"), [("0", 0), ("100", 100), ("1k", 1024), ("1.5G", 3 << 29), ("64MiB", 64 << 20), ("2 kb", 2048)]
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text, "--memory") == size


@pytest.mark.parametrize("text", ["", "-1", "m", "1x", "1.2.3m"])
def test_sizes_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="--memory"):
        parse_size(text, "--memory")


def test_moments() -> None:
    assert parse_moment("", 1000.0) == ""
    assert parse_moment("1700000000.5", 1000.0) == "1700000000.5"
    assert float(parse_moment("1m30s", 1000.0)) == 910.0
    assert float(parse_moment("2026-01-01T00:00:00Z", 0.0)) == 1767225600.0
    with pytest.raises(InvalidArgument, match="is not a time"):
        parse_moment("yesterday", 0.0)


def test_restart_policies() -> None:
    assert read_restart("on-failure:3") == {"Name": "on-failure", "MaximumRetryCount": 3}
    assert read_restart("no") == {"Name": "no", "MaximumRetryCount": 0}
    assert read_restart("on-unhealthy:2") == {"Name": "on-unhealthy", "MaximumRetryCount": 2}
    assert read_restart("always:") == {"Name": "always", "MaximumRetryCount": 0}
    for text in (":3", "on-failure:x", "on-failure:1:2"):
        with pytest.raises(InvalidArgument, match="invalid restart policy"):
            read_restart(text)
