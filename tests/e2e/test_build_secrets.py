"""Secrets of builds: nowhere on a disk, in no log, whatever becomes of the build."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from build_order import assert_no_build_left, stop_without_cleaning
from engine_process import EngineProcess

pytestmark = [pytest.mark.root, pytest.mark.e2e]

IN_FILE, IN_VARIABLE, IN_PROXY = "correct-horse-battery", "staple-of-the-variable", "password-of-the-proxy"
MOUNTS = (
    "--mount=type=secret,id=file --mount=type=secret,id=file,target=/etc/token,mode=0444 "
    "--mount=type=secret,id=file,env=FROM_FILE --mount=type=secret,id=variable,env=TOKEN --mount=type=ssh "
)
USE = 'test "$(cat /run/secrets/file)" = "$FROM_FILE" && test -n "$TOKEN" && test -S $SSH_AUTH_SOCK && '


@pytest.fixture(scope="module")
def own(busybox_tar: bytes) -> Iterator[EngineProcess]:
    """An engine that logs everything and may be killed."""
    engine = EngineProcess.make("--debug")
    engine.import_busybox(busybox_tar)
    yield engine
    engine.stop()


class Secrets:
    """What is secret, how a build is given it, and where it has been found."""

    def __init__(self, engine: EngineProcess, directory: Path) -> None:
        self.engine = engine
        self.context = directory / "context"
        self.context.mkdir()
        self.file, self.key = directory / "token", directory / "key"
        self.file.write_text(IN_FILE)
        make_key = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", self.key]
        subprocess.run(make_key, check=True, capture_output=True)
        private = self.key.read_text().splitlines()[2:-1]
        self.words = [word.encode() for word in (IN_FILE, IN_VARIABLE, IN_PROXY, *private)]
        assert all(len(word) > 10 for word in self.words)

    def command(self, text: str, *options: str) -> list[str]:
        (self.context / "Dockerfile").write_text(f"FROM busybox\n{text}")
        return [
            *("--host", self.engine.host, "build", "--progress", "plain", "--no-cache", *options),
            *("--secret", f"id=file,src={self.file}", "--secret", "id=variable,env=TARE_TEST_TOKEN"),
            *("--ssh", f"default={self.key}", "--build-arg", f"http_proxy=http://u:{IN_PROXY}@127.0.0.1:9/"),
            str(self.context),
        ]

    def environment(self) -> dict[str, str]:
        return self.engine.environment() | {"TARE_TEST_TOKEN": IN_VARIABLE}

    def build(self, text: str, *options: str) -> subprocess.CompletedProcess[bytes]:
        command = [sys.executable, "-m", "tare.cli.main", *self.command(text, *options)]
        done = subprocess.run(command, capture_output=True, env=self.environment(), timeout=90, check=False)
        assert self.found_in(done.stdout + done.stderr) == []
        return done

    def found_in(self, data: bytes) -> list[bytes]:
        return [word for word in self.words if word in data]

    def on_disk(self, *roots: Path) -> list[tuple[Path, bytes]]:
        """Files with a secret in them, those on file systems in memory left out."""
        found = []
        for root in roots:
            device = root.stat().st_dev
            for path in root.rglob("*"):
                if path.is_file() and not path.is_symlink() and path.stat().st_dev == device:
                    found += [(path, word) for word in self.found_in(path.read_bytes())]
        return found

    def assert_kept(self) -> None:
        """No file below the engine's roots has one, the database with its log included, nor has the engine said one."""
        assert (self.engine.data_root / "tare.db").is_file()
        assert self.on_disk(self.engine.data_root, self.engine.run_root) == []
        assert self.found_in(self.engine.log.encode()) == []


@pytest.fixture
def secrets(own: EngineProcess, tmp_path: Path) -> Secrets:
    return Secrets(own, tmp_path)


def test_the_search_finds_what_is_there(secrets: Secrets, tmp_path: Path) -> None:
    place = tmp_path / "searched" / "deep"
    place.mkdir(parents=True)
    (place / "leak").write_bytes(b"\0\1" + IN_VARIABLE.encode() + b"\2")
    assert secrets.on_disk(tmp_path / "searched") == [(place / "leak", IN_VARIABLE.encode())]


def test_a_build_that_goes_well(own: EngineProcess, secrets: Secrets) -> None:
    done = secrets.build(f"RUN {MOUNTS} {USE} echo $TOKEN $FROM_FILE && cat /etc/token && echo u''sed\n", "-t", "kept")
    assert (done.returncode, b"used" in done.stderr) == (0, True), done.stderr
    secrets.assert_kept()
    shown = own.docker("history", "--no-trunc", "kept").stdout + own.docker("inspect", "kept").stdout
    assert secrets.found_in(shown + own.docker("builder", "prune", "-af").stdout) == []
    secrets.build(f"RUN {MOUNTS} {USE} true\n", "-t", "kept", "--output", f"type=oci,dest={secrets.context}/out.tar")
    assert secrets.on_disk(secrets.context) == []
    own.docker("rmi", "-f", "kept")


def test_a_step_that_tells_it_and_fails(own: EngineProcess, secrets: Secrets) -> None:
    text = f"RUN {MOUNTS} {USE} echo said: $TOKEN && cat /etc/token /run/secrets/file && env | grep TOKEN; exit 7\n"
    done = secrets.build(text)
    assert (done.returncode, b"exit code: 7" in done.stderr, b"said: ****" in done.stderr) == (1, True, True)
    secrets.assert_kept()


@pytest.mark.parametrize("how", ["killed", "interrupted"])
def test_a_build_that_is_cut_short(own: EngineProcess, secrets: Secrets, how: str) -> None:
    text = f"RUN {MOUNTS} {USE} echo $TOKEN && echo be''gun && sleep 98765.5\n"
    command = [sys.executable, "-m", "tare.cli.main", *secrets.command(text)]
    build = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, env=secrets.environment())
    assert build.stderr is not None
    try:
        for line in build.stderr:
            if b"begun" in line:
                break
        secrets.assert_kept()  # while the step runs
        if how == "killed":
            own.kill()
            secrets.assert_kept()
    finally:
        build.terminate()
        build.communicate(timeout=60)
    if how == "killed":
        own.start()
    else:
        stop_without_cleaning(own)
    assert_no_build_left(own, "sleep 98765.5")
    secrets.assert_kept()
