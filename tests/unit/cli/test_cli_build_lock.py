"""Lock files on the client's side: where they are written, and what is said about them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tare.cli.build_context import Context, read_context
from tare.cli.build_lock import check_update, describe, write_locks
from tare.errors import DataCorrupt, InvalidArgument


def lock(file: str, **more: Any) -> dict[str, Any]:
    return {"context": "", "file": file, "text": "new\n", "beside": False, "changes": [], **more}


@pytest.fixture
def places(tmp_path: Path) -> Path:
    for name in ("context/sub", "other", "outside"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("context/a.yaml", "context/sub/b.yml", "other/rt.yaml", "outside/c.yaml"):
        (tmp_path / name).touch()
    return tmp_path


def test_the_context_says_where_the_lock_is(places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = str(places / "context")
    inside = read_context(context, str(places / "context/a.yaml"))
    assert (inside.lock, inside.lock_text) == (places / "context/a.lock", None)
    outside = read_context(context, str(places / "outside/c.yaml"))
    assert (outside.lock, outside.lock_text) == (places / "outside/c.lock", "")
    (places / "outside/c.lock").write_text("locked\n")
    assert read_context(context, str(places / "outside/c.yaml")).lock_text == "locked\n"
    monkeypatch.chdir(places / "outside")
    assert read_context(context, "sub/b.yml").lock == places / "context/sub/b.lock"
    assert read_context(context, "").lock is None


def test_locks_are_written_beside_what_they_lock(places: Path, capsys: pytest.CaptureFixture[str]) -> None:
    context = Context(context=str(places / "context"), lock=places / "outside/c.lock")
    given = [f"rt={places / 'other/rt.yaml'}"]
    locks = [lock("whatever.lock", beside=True), lock("sub/b.lock"), lock("rt.lock", context="rt")]
    write_locks(locks, context, given, quiet=False)
    written = [places / name for name in ("outside/c.lock", "context/sub/b.lock", "other/rt.lock")]
    assert [path.read_text() for path in written] == ["new\n"] * 3
    times = [path.stat().st_mtime_ns for path in written]
    write_locks(locks, context, given, quiet=True)
    assert [path.stat().st_mtime_ns for path in written] == times
    said = capsys.readouterr().err.splitlines()
    assert said == [f"{name}.lock written, with the same packages" for name in ("c", "b", "rt")]


@pytest.mark.parametrize(
    "name", ["../outside/c.lock", "/etc/passwd", "a.yaml", "a.conf", "sub/none.lock", "link/c.lock"]
)
def test_an_engine_cannot_have_other_files_written(places: Path, name: str) -> None:
    (places / "context/link").symlink_to(places / "outside")
    before = sorted(places.rglob("*"))
    with pytest.raises(DataCorrupt, match="belongs to no file of the build"):
        write_locks([lock(name)], Context(context=str(places / "context")), [], quiet=True)
    assert sorted(places.rglob("*")) == before


def test_what_is_different_is_said() -> None:
    def change(architecture: str, name: str, before: str = "", after: str = "") -> dict[str, str]:
        return {"architecture": architecture, "name": name, "before": before, "after": after}

    changes = [
        change("amd64", "curl", after="7"),
        change("amd64", "libc6", "1", "2"),
        change("amd64", "tzdata", "3", "3"),
        change("amd64", "wget", before="4"),
        change("arm64", "curl", after="7"),
        change("arm64", "libc6", after="2"),
    ]
    assert list(describe("x.lock", changes, same=False)) == [
        "x.lock written",
        "  amd64: + curl 7",
        "  amd64: libc6 1 → 2",
        "  amd64: tzdata 3 → 3 (built anew)",
        "  amd64: - wget 4",
        "  arm64: 2 packages",
    ]
    assert list(describe("x.lock", [], same=True)) == ["x.lock is up to date"]


@pytest.mark.parametrize(
    ("context", "options", "cause"),
    [
        (Context(remote="https://host/x.git"), {}, "writes beside the file that is built"),
        (Context(context="/c"), {"plan_only": True}, "--plan makes none"),
        (Context(context="/c"), {"check": True}, "--check makes none"),
    ],
)
def test_updates_that_mean_nothing(context: Context, options: dict[str, bool], cause: str) -> None:
    with pytest.raises(InvalidArgument, match=cause):
        check_update(context, {"plan_only": False, "check": False, **options})
