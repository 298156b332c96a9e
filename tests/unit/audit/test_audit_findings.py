"""Findings of plain audits: permissions, ownership, secrets, settings."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from audit_parts import device, directory, file, report_of, symlink, told
from tare.audit.findings import Severity
from tare.audit.secrets import redacted
from tare.model.container import (
    Container,
    ContainerConfig,
    ContainerState,
    DeviceMapping,
    HostConfig,
    IdRange,
    MountPoint,
    PortBinding,
)
from tare.oci.image import ExecutionConfig

PLAIN = ExecutionConfig(entrypoint=["/app"], user="1000")
BODY = "\n".join("MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj" for _ in range(4))
KEY = f"-----BEGIN RSA PRIVATE KEY-----\n{BODY}\n-----END RSA PRIVATE KEY-----\n".encode()
TOKEN = "ghp_" + "a1B2" * 9
AWS = "AKIA" + "ABCDEFGH234567QR"


def test_permissions_and_devices(tmp_path: Path) -> None:
    report = report_of(
        tmp_path,
        [
            directory("tmp", 0o1777), directory("srv", 0o777), file("srv/notes", b"x", 0o666), symlink("srv/way", "/"),
            device("dev/sda", 8, 0), file("bin/su", b"#!x\n", 0o6755),
        ],
    )  # fmt: skip
    assert told(report) >= {
        ("world-writable", "/srv"), ("world-writable", "/srv/notes"), ("device-node", "/dev/sda"),
        ("setuid", "/bin/su"),
    }  # fmt: skip
    assert not {path for rule, path in told(report) if rule == "world-writable"} & {"/tmp", "/srv/way"}
    assert next(one.what for one in report.findings if one.rule == "setuid") == "set-user- and set-group-ID, owner 0:0"
    assert [one.severity for one in report.findings] == sorted((one.severity for one in report.findings), reverse=True)


def test_ownership_of_packages(tmp_path: Path) -> None:
    good, bad = b"as published\n", b"changed since\n"
    sums = (
        f"{hashlib.md5(good).hexdigest()}  lib/good\n{hashlib.md5(good).hexdigest()}  lib/bad\n"
        f"{'0' * 32}  lib/gone\n{hashlib.md5(KEY).hexdigest()}  lib/example.pem\nno line\n"
    )
    report = report_of(
        tmp_path,
        [
            symlink("lib", "usr/lib"), file("usr/lib/good", good), file("usr/lib/bad", bad), file("usr/lib/new", b"x"),
            file("usr/lib/example.pem", KEY), file("etc/settings", b"x"),
            file("var/lib/dpkg/status.d/some.md5sums", sums.encode()), file("opt/a/b/c/d/e", b"x"),
            file("opt/a/b/c/f", b"x"),
        ],
    )  # fmt: skip
    found = {(one.rule, one.path, one.what) for one in report.findings}
    assert ("modified-file", "/usr/lib/bad", "not as in package some") in found
    assert ("unowned-file", "/usr/lib", "1 file of no package") in found
    assert ("unowned-file", "/opt/a/b", "2 files of no package") in found
    assert not any(path in ("/usr/lib/good", "/usr/lib/example.pem", "/etc/settings") for _, path, _ in found)


def test_apk_owns_files(tmp_path: Path) -> None:
    index = "P:musl\nV:1.2\nF:lib\nR:ld.so\nZ:Q1qUqP5cyxm6YcTAhz05Hph5gvu9M=\nF:usr/bin\nR:x\nZ:Q1bad!\n\n"
    members = [file("lib/ld.so", b"test"), file("usr/bin/x", b"y"), file("lib/apk/db/installed", index.encode())]
    assert not {rule for rule, _ in told(report_of(tmp_path, members))} & {"unowned-file", "modified-file"}
    members[0] = file("lib/ld.so", b"changed")
    assert ("modified-file", "/lib/ld.so") in told(report_of(tmp_path, members))


SECRETS = {
    "srv/key.pem": (KEY, "secret-key"),
    "srv/in.json": (json.dumps({"private": KEY.decode()}).encode(), "secret-key"),
    "srv/settings.py": (f'GITHUB = "{TOKEN}"\n'.encode(), "secret-token"),
    "srv/aws.txt": (f"id {AWS} used\n".encode(), "secret-token"),
    "root/.netrc": (b"machine example.org login me password s3cret\n", "secret-file"),
    "root/.npmrc": (b"//registry.example.org/:_authToken=abcdef0123456789\n", "secret-file"),
    "root/.docker/config.json": (b'{"auths": {"example.org": {"auth": "dXNlcjpwYXNz"}}}', "secret-file"),
    "root/.git-credentials": (b"https://me:s3cret@example.org\n", "secret-file"),
    "root/.aws/credentials": (b"[default]\naws_secret_access_key = abc\n", "secret-file"),
    "root/.pgpass": (b"db:5432:shop:me:s3cret\n", "secret-file"),
}
HARMLESS = {
    "usr/share/doc.txt": b"-----BEGIN RSA PRIVATE KEY-----\n...\n-----END RSA PRIVATE KEY-----\nAKIA ghp_ short\n",
    "root/other/.npmrc": b"registry=https://registry.example.org/\n//registry.example.org/:_authToken=${NPM_TOKEN}\n",
    "root/x/.netrc": b"# machine example.org login me password\n",
    "root/y/.docker/config.json": b'{"auths": {}, "credsStore": "pass"}',
    "srv/cert.pem": b"-----BEGIN CERTIFICATE-----\n" + BODY.encode() + b"\n",
    "srv/pub.pem": b"-----BEGIN PUBLIC KEY-----\n" + BODY.encode() + b"\n",
}


def test_secrets_in_files(tmp_path: Path) -> None:
    members = [file(name, data) for name, (data, _) in SECRETS.items()]
    members += [file(name, data) for name, data in HARMLESS.items()]
    report = report_of(tmp_path, members, config=PLAIN)
    found = {(one.path.lstrip("/"), one.rule) for one in report.findings if one.rule.startswith("secret-")}
    assert found == {(name, rule) for name, (_, rule) in SECRETS.items()}
    for one in report.findings:
        for value in ("s3cret", TOKEN, AWS, "MIIEvQ", "dXNlcjpwYXNz", "abcdef0123456789"):
            assert value not in repr(one)


def test_a_secret_in_a_lower_layer_is_found_after_its_deletion(tmp_path: Path) -> None:
    report = report_of(
        tmp_path,
        [file("root/id_rsa", KEY), file("srv/token", TOKEN.encode())],
        [file("root/.wh.id_rsa"), file("srv/token", b"none")],
        config=PLAIN,
        history=["COPY . /", "RUN rm /root/id_rsa"],
    )
    found = [one for one in report.findings if one.rule.startswith("secret-")]
    assert {(one.rule, one.path, one.layer) for one in found} == {
        ("secret-key", "/root/id_rsa", 0),
        ("secret-token", "/srv/token", 0),
    }
    assert all("deleted or replaced in a later layer" in one.what for one in found)
    assert report.layers[0].created_by == "COPY . /"


def test_secrets_in_environment_and_history(tmp_path: Path) -> None:
    config = ExecutionConfig(
        user="1000",
        labels={"deploy": f"token {TOKEN}", "maintainer": "me"},
        env=[
            "DB_PASSWORD=s3cret", f"X={TOKEN}", "DATABASE_URL=postgres://me:s3cret@db/shop", "PASSWORD_FILE=/run/p",
            "SECRET_KEY=${SECRET}", "API_TOKEN=", "TOKEN_TTL=30", "MONKEY=1", "GPG_KEY_ID=ABCD", "KEYSTORE_PASSWORD=/x",
        ],
    )  # fmt: skip
    history = [
        "RUN |1 NPM_TOKEN=abcdef123 /bin/sh -c npm install", f"RUN curl -H 'Authorization: {TOKEN}' x",
        "ENV DB_PASSWORD=s3cret", "RUN git clone https://me:s3cret@example.org/x", "RUN echo TOKEN=$TOKEN",
    ]  # fmt: skip
    report = report_of(tmp_path, [], config=config, history=history)
    found = {one.path for one in report.findings if one.rule == "secret-environment"}
    assert found == {
        "LABEL deploy", "ENV DB_PASSWORD", "ENV X", "ENV DATABASE_URL",
        *(f"history, step {number}" for number in (1, 2, 3, 4)),
    }  # fmt: skip
    assert "s3cret" not in repr(report) and TOKEN not in repr(report)
    assert report.layers[0].created_by == "RUN |1 NPM_TOKEN=*** /bin/sh -c npm install"


@pytest.mark.parametrize(
    ("step", "shown"),
    [
        (f"RUN curl -H 'X: {TOKEN}' x", "RUN curl -H 'X: ***' x"),
        ("RUN git clone https://me:s3:cret@example.org/x", "RUN git clone https://me:***@example.org/x"),
        ('ENV DB_PASSWORD="two words" MODE=fast', "ENV DB_PASSWORD=*** MODE=fast"),
        (f"RUN echo '{KEY.decode()}' > /key", "RUN echo '***"),
        ("RUN make TARGET=all", "RUN make TARGET=all"),
    ],
)
def test_steps_are_shown_without_secrets(step: str, shown: str) -> None:
    assert redacted(step) == shown


@pytest.mark.parametrize(
    ("user", "root"), [("", True), ("0", True), ("root:app", True), ("00:5", True), ("65532", False), ("app", False)]
)
def test_running_as_root(tmp_path: Path, user: str, root: bool) -> None:
    report = report_of(tmp_path, [], config=ExecutionConfig(user=user))
    assert (("root-user", "USER") in told(report)) is root


def container(host: HostConfig, *mounts: MountPoint, user: str = "1000", ids: IdRange | None = None) -> Container:
    return Container(
        id="c" * 64, name="/web", created="", image_id="", image_name="", path="/app", args=[],
        config=ContainerConfig(user=user, env=["API_TOKEN=s3cret"]), host_config=host, networking={},
        mounts=list(mounts), state=ContainerState(), ids=ids,
    )  # fmt: skip


def bind(source: str, *, rw: bool = True) -> MountPoint:
    return MountPoint(type="bind", source=source, destination="/in", rw=rw)


SAFE = {
    "readonly_rootfs": True, "memory": 1 << 30, "pids_limit": 100, "security_opt": ["no-new-privileges"],
}  # fmt: skip


@pytest.mark.parametrize(
    ("host", "mounts", "expected"),
    [
        (HostConfig(**SAFE), [], set()),
        (HostConfig(**SAFE, privileged=True), [], {("privileged", Severity.CRITICAL)}),
        (HostConfig(**SAFE, network_mode="host"), [], {("host-network", Severity.HIGH)}),
        (HostConfig(**SAFE, pid_mode="host"), [], {("host-namespace", Severity.HIGH)}),
        (HostConfig(**SAFE, cap_add=["CAP_SYS_ADMIN"]), [], {("added-capability", Severity.HIGH)}),
        (HostConfig(**SAFE, cap_add=["NET_RAW"]), [], {("added-capability", Severity.MEDIUM)}),
        (HostConfig(**SAFE, cap_add=["NET_BIND_SERVICE"]), [], set()),
        (HostConfig(**SAFE, devices=[DeviceMapping(path_on_host="/dev/sda")]), [], {("host-device", Severity.HIGH)}),
        (HostConfig(**SAFE, publish_all_ports=True), [], {("published-everywhere", Severity.LOW)}),
        (
            HostConfig(**SAFE, port_bindings={"80/tcp": [PortBinding(host_port="80")]}), [],
            {("published-everywhere", Severity.LOW)},
        ),
        (HostConfig(**SAFE, port_bindings={"80/tcp": [PortBinding(host_ip="127.0.0.1")]}), [], set()),
        (
            HostConfig(**{**SAFE, "security_opt": ["no-new-privileges:true", "seccomp=unconfined"]}), [],
            {("unconfined", Severity.HIGH)},
        ),
        (
            HostConfig(), [],
            {("writable-root", Severity.LOW), ("new-privileges", Severity.LOW), ("no-limits", Severity.LOW)},
        ),
        (HostConfig(**SAFE), [bind("/var/run/docker.sock", rw=False)], {("engine-socket", Severity.CRITICAL)}),
        (HostConfig(**SAFE), [bind("/run/tare")], {("engine-socket", Severity.CRITICAL)}),
        (HostConfig(**SAFE), [bind("/")], {("engine-socket", Severity.CRITICAL)}),
        (HostConfig(**SAFE), [bind("/etc/../etc/cron.d")], {("system-mount", Severity.HIGH)}),
        (HostConfig(**SAFE), [bind("/usr", rw=False)], {("system-mount", Severity.MEDIUM)}),
        (HostConfig(**SAFE), [bind("/etc/localtime", rw=False), bind("/srv/data"), bind("/etcetera")], set()),
    ],
)  # fmt: skip
def test_settings_of_containers(
    tmp_path: Path, host: HostConfig, mounts: list[MountPoint], expected: set[tuple[str, Severity]]
) -> None:
    report = report_of(tmp_path, [file("app", b"text")], config=PLAIN, container=container(host, *mounts))
    found = {(one.rule, one.severity) for one in report.findings}
    assert found - {("secret-environment", Severity.LOW)} == expected
    assert not any("s3cret" in repr(one) for one in report.findings)


def test_root_with_ids_of_its_own_is_less(tmp_path: Path) -> None:
    for ids, severity in ((None, Severity.MEDIUM), (IdRange(first=100000, size=65536), Severity.LOW)):
        report = report_of(
            tmp_path, [], config=PLAIN, container=container(HostConfig(**SAFE), user="", ids=ids)
        )  # fmt: skip
        assert ("root-user", severity) in {(one.rule, one.severity) for one in report.findings}


def test_what_a_container_has_written_counts(tmp_path: Path) -> None:
    upper = tmp_path / "upper"
    (upper / "srv").mkdir(parents=True)
    (upper / "srv/key").write_bytes(KEY)
    (upper / "srv/tool").write_bytes(Path("/bin/dash").read_bytes())
    (upper / "srv/out").symlink_to("/etc/passwd")
    (upper / "srv/open").mkdir()
    (upper / "srv/open").chmod(0o777)
    report = report_of(
        tmp_path, [file("app", b"x")], config=PLAIN, container=container(HostConfig(**SAFE)), upper=upper
    )  # fmt: skip
    found = {(one.rule, one.path, one.layer) for one in report.findings}
    assert found >= {("secret-key", "/srv/key", 1), ("shell", "/srv/tool", 1), ("world-writable", "/srv/open", 1)}
    assert report.layers[1].created_by == "written by the container"


HOSTILE = {
    "blank lines": b"password\n" + b"\n" * (2 << 20),
    "spaces": b" " * (2 << 20) + b"token",
    "a scheme without end": b"a" * (2 << 20),
    "keys without content": b"-----BEGIN RSA PRIVATE KEY-----" + b"\n" * (2 << 20),
    "keys without end": b"-----BEGIN PRIVATE KEY-----\nA: b\n" * 60_000,
    "web tokens": b"eyJhbGci" * 250_000,
    "brackets": b'{"auths":' + b"[" * 500_000,
    "programs of packages": b"pip._internal.cli.main" + b"\n \t" * 600_000,
    "addresses": b"a://b:" * 300_000,
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", HOSTILE)
def test_texts_that_are_made_to_take_long(tmp_path: Path, name: str) -> None:
    files = (".netrc", ".npmrc", ".pypirc", ".aws/credentials", ".kube/config", ".docker/config.json", ".pgpass", "x")
    members = [file(f"root/{one}", HOSTILE[name]) for one in files]
    assert report_of(tmp_path, members, config=PLAIN).files == len(files)
