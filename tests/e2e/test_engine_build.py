"""Builds through Docker's command line, with the errors people meet."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from engine_process import EngineProcess

pytestmark = [pytest.mark.root, pytest.mark.e2e]

MULTI_STAGE = """\
FROM busybox AS tools
ARG WORD=default
RUN mkdir /out && echo "$WORD" > /out/word && echo sl""ow
COPY page.html /out/page

FROM busybox AS unused
RUN exit 99

FROM scratch
COPY --from=tools /bin/busybox /bin/busybox
COPY --from=tools /out /data
ENV PLACE=/data
WORKDIR /data
LABEL made=here
USER 405
EXPOSE 80
ENTRYPOINT ["/bin/busybox"]
CMD ["cat", "word", "page"]
"""


@pytest.fixture
def context(tmp_path: Path) -> Path:
    (tmp_path / "page.html").write_text("<p>\n")
    (tmp_path / "secret").write_text("not for images")
    (tmp_path / ".dockerignore").write_text("secret\n")
    (tmp_path / "Dockerfile").write_text(MULTI_STAGE)
    return tmp_path


@pytest.fixture
def tidy(host: EngineProcess) -> Iterator[None]:
    """Nothing half-made: containers and steps gone, active snapshots too."""
    yield
    assert host.text("ps", "-aq") == ""
    steps = host.run_root / "steps"
    assert not steps.exists() or not list(steps.iterdir())
    staging = host.data_root / "staging"
    assert not staging.exists() or not list(staging.iterdir())
    _directories_agree_with_the_database(host)


def _directories_agree_with_the_database(host: EngineProcess) -> None:
    """Every snapshot directory has its row and every row its directory; no writable layer is left."""
    (database,) = host.data_root.glob("*.db")
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        rows = dict(connection.execute("SELECT id, kind FROM snapshots").fetchall())
        assert connection.execute("SELECT count(*) FROM containers").fetchone() == (0,)
    assert "active" not in rows.values()
    directories = {path.name for path in (host.data_root / "snapshots").iterdir() if path.name.isdecimal()}
    assert directories == {str(number) for number in rows}


def write(context: Path, text: str) -> str:
    (context / "Dockerfile").write_text(text)
    return str(context)


def test_multi_stage_build_runs(host: EngineProcess, context: Path, tidy: None) -> None:
    built = host.docker("build", "-t", "lean:1", "--build-arg", "WORD=chosen", str(context))
    assert b"Successfully tagged lean:1" in built.stdout
    assert b"exit 99" not in built.stdout, "an unneeded stage was built"
    assert host.text("run", "--rm", "lean:1") == "chosen\n<p>"
    assert host.text("run", "--rm", "lean:1", "ls", "/") == "bin\ndata\ndev\netc\nproc\nsys"
    config = host.text(
        "inspect", "-f", "{{.Config.User}} {{.Config.WorkingDir}} {{.Config.Labels}} {{.Config.ExposedPorts}}", "lean:1"
    )
    assert config == "405 /data map[made:here] map[80/tcp:{}]"
    again = host.docker("build", "-t", "lean:1", "--build-arg", "WORD=chosen", str(context))
    assert b"Using cache" in again.stdout
    assert b"slow" not in again.stdout
    (context / "page.html").write_text("<b>\n")
    changed = host.docker("build", "-t", "lean:1", "--build-arg", "WORD=chosen", str(context))
    assert b"slow" not in changed.stdout
    assert host.text("run", "--rm", "lean:1") == "chosen\n<b>"
    host.docker("rmi", "lean:1")


def test_target_and_quiet(host: EngineProcess, context: Path, tidy: None) -> None:
    identifier = host.text("build", "-q", "--target", "tools", str(context))
    assert identifier.startswith("sha256:")
    assert host.text("run", "--rm", identifier, "cat", "/out/word") == "default"
    refused = host.docker("build", "--target", "ghost", str(context), check=False)
    assert (refused.returncode, b"ghost" in refused.stderr) == (1, True)


def test_ignored_files_are_not_seen(host: EngineProcess, context: Path, tidy: None) -> None:
    failed = host.docker("build", write(context, "FROM busybox\nCOPY secret /\n"), check=False)
    assert failed.returncode != 0
    assert b"secret" in failed.stderr


def test_failing_run_shows_output_code_and_place(host: EngineProcess, context: Path, tidy: None) -> None:
    failed = host.docker(
        "build", "-t", "never", write(context, "FROM busybox\n\nRUN echo because; exit 12\n"), check=False
    )
    assert failed.returncode != 0
    said = (failed.stdout + failed.stderr).decode()
    assert "because" in said
    assert "returned a non-zero code: 12" in failed.stderr.decode()
    assert "Dockerfile:3" in failed.stderr.decode()
    assert b"No such image: never" in host.docker("image", "inspect", "never", check=False).stderr


def test_syntax_error_shows_the_line_with_a_caret(host: EngineProcess, context: Path, tidy: None) -> None:
    failed = host.docker("build", write(context, "FROM busybox\nCOPPY a b\n"), check=False)
    said = failed.stderr.decode()
    assert failed.returncode == 1
    assert "unknown instruction: COPPY" in said
    assert "Dockerfile:2" in said
    lines = said.splitlines()
    quoted = next(number for number, line in enumerate(lines) if "COPPY a b" in line)
    assert lines[quoted].index("COPPY") == lines[quoted + 1].index("^")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("FROM busybox\nCOPY missing /\n", "missing"),
        ("FROM busybox\nCOPY --from=nowhere/at:all a /\n", "nowhere/at:all"),
        ("FROM not/there:1\n", "not/there:1"),
        ("FROM busybox\nADD --unknown x /\n", "unknown flag: --unknown"),
        ("FROM busybox\nUSER nobody-here\nRUN true\n", "nobody-here"),
        ('FROM busybox\nRUN ["/nope"]\n', "/nope"),
        ("", "empty"),
        ("RUN true\n", "no build stage in current context"),
    ],
)
def test_builds_that_fail(host: EngineProcess, context: Path, tidy: None, text: str, words: str) -> None:
    failed = host.docker("build", write(context, text), check=False)
    assert failed.returncode != 0
    assert words in failed.stderr.decode(), failed.stderr.decode()


def test_missing_dockerfile(host: EngineProcess, tmp_path: Path) -> None:
    failed = host.docker("build", str(tmp_path), check=False)
    assert failed.returncode != 0
    assert b"Dockerfile" in failed.stderr
