"""The options of ``build``."""

from pathlib import Path

import pytest

from tare.cli.build_context import read_context
from tare.cli.build_request import (
    build_request,
    read_annotations,
    read_build_args,
    read_contexts,
    read_output,
    read_secrets,
    read_ssh,
)
from tare.errors import InvalidArgument, NotFound

BUILD_OPTIONS = {
    "tags": (), "dockerfile": "", "target": "", "build_args": (), "labels": (), "no_cache": False, "pull": False,
    "network": "", "hosts": (), "platform": "", "quiet": False, "shm_size": "", "contexts": (), "secrets": (),
    "ssh": (), "allow": (), "no_cache_filter": (), "outputs": (), "annotations": (), "ulimits": (), "check": False,
    "plan": False, "why": False, "debug": False, "budget": "", "update_lock": False,
    "push": False,
}  # fmt: skip


def test_build_request(tmp_path: Path) -> None:
    (tmp_path / "docker").mkdir()
    (tmp_path / "docker" / "Dockerfile.fat").write_text("FROM scratch\n")
    given = BUILD_OPTIONS | {"dockerfile": str(tmp_path / "docker" / "Dockerfile.fat"), "build_args": ("A=1", "B", "C")}
    request = build_request(read_context(str(tmp_path), str(given["dockerfile"])), given, {"B": "2"})
    assert request["context"] == str(tmp_path)
    assert request["dockerfile"] == "docker/Dockerfile.fat"
    assert request["dockerfile_text"] is None
    assert request["build_args"] == {"A": "1", "B": "2"}


def test_a_bad_tag_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="invalid reference format"):
        build_request(read_context(str(tmp_path), ""), BUILD_OPTIONS | {"tags": ("UPPER",)}, {})


def test_build_args_pass_the_epoch_on() -> None:
    assert read_build_args(["A", "B=2"], {"SOURCE_DATE_EPOCH": "7", "A": "1"}) == {
        "SOURCE_DATE_EPOCH": "7",
        "A": "1",
        "B": "2",
    }
    with pytest.raises(InvalidArgument, match="--build-arg"):
        read_build_args(["=x"], {})


def test_contexts(tmp_path: Path) -> None:
    found = read_contexts([f"lib={tmp_path}", "base=docker-image://debian:12", "src=git@host:repo.git"])
    assert found == {"lib": str(tmp_path), "base": "docker-image://debian:12", "src": "git@host:repo.git"}
    (tmp_path / "rt.yaml").touch()
    (tmp_path / "rt.txt").touch()
    assert read_contexts([f"rt={tmp_path / 'rt.yaml'}"]) == {"rt": str(tmp_path / "rt.yaml")}
    with pytest.raises(NotFound, match=r"rt\.txt is neither a directory nor a \.yaml file"):
        read_contexts([f"rt={tmp_path / 'rt.txt'}"])
    for text in ("lib", "=x", "lib="):
        with pytest.raises(InvalidArgument, match="invalid context value"):
            read_contexts([text])
    with pytest.raises(NotFound, match="failed to get build context lib"):
        read_contexts([f"lib={tmp_path / 'nothing'}"])


def test_secrets(tmp_path: Path) -> None:
    (tmp_path / "token").write_bytes(b"s3cret\n")
    environ = {"TOKEN": "from env"}
    given = [f"id=a,src={tmp_path / 'token'}", "id=TOKEN", "id=b,env=TOKEN", "type=env,id=TOKEN"]
    assert read_secrets(given, environ) == [
        ("a", b"s3cret\n"),
        ("TOKEN", b"from env"),
        ("b", b"from env"),
        ("TOKEN", b"from env"),
    ]
    with pytest.raises(NotFound, match="secret a: the variable NONE is not set"):
        read_secrets(["id=a,env=NONE"], environ)
    with pytest.raises(NotFound, match=r"secret a: .*no-such: No such file"):
        read_secrets([f"id=a,src={tmp_path / 'no-such'}"], environ)
    for text in ("src=x", "id=a,colour=blue", "id=a,type=pipe,src=x", "words"):
        with pytest.raises(InvalidArgument):
            read_secrets([text], environ)


def test_ssh(tmp_path: Path) -> None:
    (tmp_path / "key").touch()
    (tmp_path / "agent").touch()
    environ = {"SSH_AUTH_SOCK": str(tmp_path / "agent")}
    assert read_ssh(["default", f"deploy={tmp_path / 'key'}"], environ) == {
        "default": [str(tmp_path / "agent")],
        "deploy": [str(tmp_path / "key")],
    }
    with pytest.raises(InvalidArgument, match="SSH_AUTH_SOCK is not set"):
        read_ssh(["default"], {})
    with pytest.raises(NotFound, match="no such file"):
        read_ssh([f"x={tmp_path / 'nothing'}"], {})


def test_outputs(tmp_path: Path) -> None:
    assert read_output("-")["destination"] == "-"
    assert read_output(str(tmp_path))["type"] == "local"
    found = read_output(f"type=oci,dest={tmp_path}/x.tar,compression=zstd")
    assert (found["type"], found["destination"], found["attributes"]) == (
        "oci",
        f"{tmp_path}/x.tar",
        {"compression": "zstd"},
    )
    for text in ("type=floppy", "type=local", "type=tar", "type=local,dest=-", "type=local,dest"):
        with pytest.raises(InvalidArgument):
            read_output(text)


def test_annotations() -> None:
    assert read_annotations(["a=b", "index:c=d=e"]) == {"a": "b", "index:c": "d=e"}
    with pytest.raises(InvalidArgument, match="expected key=value"):
        read_annotations(["a"])
