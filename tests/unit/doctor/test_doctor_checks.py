from __future__ import annotations

import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from tare.doctor import checks
from tare.doctor.checks import apt_sources, check_runtime, check_space, finding

Usage = namedtuple("Usage", "total used free")


def test_finding_levels() -> None:
    assert finding("x", True, "", "", "install it").remedy == ""
    assert finding("x", False, "", "", "install it").level == "missing"
    assert finding("x", False, "", "", "install it", needed=False).level == "warning"


def test_sources_that_apt_reads(tmp_path: Path) -> None:
    parts = tmp_path / "sources.list.d"
    parts.mkdir()
    (tmp_path / "sources.list").write_text("# deb http://example.com x main\n")
    (parts / "a.list").write_text("deb http://example.com bookworm main\n")
    (parts / "b.sources").write_text("Types: deb\nURIs: http://example.com\n")
    (parts / "c.list.disabled").write_text("deb http://example.com bookworm main\n")
    assert [path.name for path in apt_sources(tmp_path)] == ["a.list", "b.sources"]


def test_no_sources(tmp_path: Path) -> None:
    assert apt_sources(tmp_path) == []


def test_runtime_that_works_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")
    found = check_runtime(("crun", "runc"), lambda place: "hybrid cgroups" if place == "/bin/crun" else "")
    assert found.level == "ok"
    assert found.detail == "/bin/runc works (/bin/crun does not work here: hybrid cgroups)"


def test_no_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    found = check_runtime(("crun", "runc"), lambda place: "")
    assert (found.level, found.detail) == ("missing", "crun is not installed; runc is not installed")
    assert found.remedy == "apt-get install runc"


@pytest.mark.parametrize(("free", "level"), [(1 << 40, "ok"), (2 << 30, "warning"), (1 << 20, "missing")])
def test_space(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, free: int, level: str) -> None:
    monkeypatch.setattr(checks.shutil, "disk_usage", lambda path: Usage(1 << 41, 0, free))
    (found,) = check_space(tmp_path / "not" / "there")
    assert found.level == level
    assert str(tmp_path) in found.detail
