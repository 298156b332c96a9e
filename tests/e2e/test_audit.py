"""Audits by command line, library and API, of images and containers that exist."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker as docker_py
import pytest
from sarif_kit.validate import validation_errors

from audit_parts import file, hardlink, tar
from engine_process import EngineProcess

pytestmark = [pytest.mark.root, pytest.mark.e2e]


@pytest.fixture
def images(host: EngineProcess, probe_program: Path, tmp_path: Path) -> Iterator[EngineProcess]:
    """The images ``audited:good`` with nothing but a program and ``audited:bad``, which hides a shell."""
    program = probe_program.read_bytes()
    shell = [
        file("usr/share/fonts/a.ttf", Path("/bin/busybox").read_bytes()),
        hardlink("app/plug", "usr/share/fonts/a.ttf"),
    ]
    settings = ("-c", 'ENTRYPOINT ["/app/server"]', "-c", "USER 65532")
    for name, members in (("good", []), ("bad", shell)):
        data = tar(tmp_path / name, [file("app/server", program, 0o755), *members]).read_bytes()
        host.docker("import", *settings, "-", f"audited:{name}", stdin=data)
    yield host
    host.remove_containers()
    host.docker("rmi", "audited:good", "audited:bad")


def asked(host: EngineProcess, *arguments: str) -> tuple[int, dict[str, Any]]:
    done = host.tare("audit", "--json", *arguments, check=False)
    assert done.returncode in (0, 1), done.stderr
    return done.returncode, json.loads(done.stdout)


def test_the_proof_by_command_line(images: EngineProcess) -> None:
    status, found = asked(images, "--distroless", "audited:good")
    assert (status, found["Passed"], found["Findings"]) == (0, True, [])
    assert found["Proof"]["Closure"] == [{"Path": "/app/server", "Reason": "the entrypoint"}]
    status, found = asked(images, "--distroless", "audited:bad")
    assert (status, found["Passed"], found["Proof"]["Holds"]) == (1, False, False)
    assert {(one["Rule"], one["Path"]) for one in found["Findings"]} >= {
        (rule, path) for rule in ("shell", "outside-closure") for path in ("/app/plug", "/usr/share/fonts/a.ttf")
    }
    said = images.tare("image", "audit", "--distroless", "audited:bad", check=False)
    assert said.returncode == 1
    assert b"  - /app/plug: recognised as a multi-call program (busybox, toybox)\n" in said.stdout
    assert b"distroless: the proof does not hold: /app/server, 1 files in its closure\n" in said.stdout


def test_exit_statuses_and_policies(images: EngineProcess, tmp_path: Path) -> None:
    policy = tmp_path / "audit.toml"
    policy.write_text(
        'fail-on = "high"\n[[ignore]]\nrule = ["shell", "outside-closure", "package-manager", "network-tool"]\n'
        'path = "/{usr/share/fonts,app}/*"\nreason = "none"\n'
    )
    assert asked(images, "audited:bad")[0] == 1
    assert asked(images, "--fail-on", "critical", "audited:bad")[0] == 0
    status, found = asked(images, "--distroless", "--policy", str(policy), "audited:bad")
    assert (status, len(found["Notes"])) == (1, 1)
    policy.write_text(policy.read_text().replace("/{usr/share/fonts,app}/*", "/**"))
    status, found = asked(images, "--distroless", "--policy", str(policy), "audited:bad")
    assert (status, found["FailOn"], found["Proof"]["Holds"]) == (0, "high", True)
    assert {one["Ignored"] for one in found["Findings"]} == {"none"}
    policy.write_text('[[ignore]]\nrule = "shel"\nreason = "x"\n')
    for arguments, message in (
        (("--policy", str(policy), "audited:bad"), "there is no rule 'shel' (did you mean shell?)"),
        (("--policy", "/nowhere.toml", "audited:bad"), "policy /nowhere.toml: No such file or directory"),
        (("audited:none",), "No such image: audited:none"),
        (("--type", "container", "audited:bad"), "No such container: audited:bad"),
        ((), "tare audit needs an image or a container"),
        (("--json", "--sarif", "audited:bad"), "conflicting options"),
    ):
        done = images.tare("audit", *arguments, check=False)
        assert (done.returncode, done.stdout) == (2, b""), arguments
        assert message in done.stderr.decode()


def test_sarif_and_rules(images: EngineProcess) -> None:
    done = images.tare("audit", "--sarif", "audited:bad", check=False)
    assert done.returncode == 1
    assert validation_errors(json.loads(done.stdout)) == []
    listed = images.tare("audit", "--rules").stdout.decode().splitlines()
    documented = (Path(__file__).parents[2] / "docs/audit.md").read_text()
    assert len(listed) > 30
    assert all(f"| `{line.split()[0]}` |" in documented for line in listed[1:])


def test_containers(images: EngineProcess, client: docker_py.DockerClient) -> None:
    options = ("--network", "host", "-v", "/run/docker.sock:/s", "--cap-add", "SYS_ADMIN", "-e", "DB_PASSWORD=s3cret")
    images.docker("run", "-d", "--name", "open", *options, "busybox", "sleep", "1000")
    images.docker("exec", "open", "sh", "-c", "cp /bin/busybox /root/tool; chmod 4755 /root/tool")
    answer = client.api._post_json(client.api._url("/tare/containers/{0}/audit", "open"), data={"FailOn": "low"})
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert (found["Kind"], found["Name"], found["Passed"], found["FailOn"]) == ("container", "open", False, "low")
    rules = {(one["Rule"], one["Path"]) for one in found["Findings"]}
    assert rules >= {
        ("host-network", "NetworkMode"), ("engine-socket", "/s"), ("added-capability", "CapAdd SYS_ADMIN"),
        ("setuid", "/root/tool"), ("shell", "/root/tool"), ("shell", "/bin/busybox"), ("root-user", "User"),
        ("secret-environment", "Env DB_PASSWORD"), ("writable-root", "ReadonlyRootfs"),
    }  # fmt: skip
    assert "s3cret" not in answer.text
    written = next(one for one in found["Findings"] if one["Path"] == "/root/tool")
    assert found["Layers"][written["Layer"]] == {"Digest": "", "CreatedBy": "written by the container"}
    by_name = images.tare("audit", "open", check=False)
    assert by_name.returncode == 1 and b"[layer 2: written by the container]" in by_name.stdout
    images.docker("kill", "open")
    assert asked(images, "--type", "container", "open")[1]["Files"] == found["Files"]


def test_what_is_asked_wrongly(images: EngineProcess, client: docker_py.DockerClient) -> None:
    url = client.api._url("/tare/images/{0}/audit", "audited:good")
    for body, message in (
        ({"FailOn": "never"}, "FailOn: 'never' is no severity"),
        ({"Nothing": 1}, "contains unknown field `Nothing`"),
        ({"Policy": {"require": 1}}, "policy: require: expected `object`, got `int`"),
    ):
        answer = client.api._post_json(url, data=body)
        assert answer.status_code == 400 and message in answer.json()["message"], answer.text
    assert client.api._post(url).status_code == 200


def test_an_image_that_cannot_be_unpacked(host: EngineProcess, tmp_path: Path) -> None:
    data = tar(tmp_path / "odd", [file("x", b""), file("x/y", b"")]).read_bytes()
    host.docker("import", "-", "audited:odd", stdin=io.BytesIO(data).read())
    done = host.tare("audit", "audited:odd", check=False)
    assert done.returncode == 2 and b"tar member below 'x'" in done.stderr
    host.docker("rmi", "audited:odd")
