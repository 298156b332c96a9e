from __future__ import annotations

from pathlib import Path

from tare.build.ops.manifests import Facts, Manifests, changed_files, differences


def facts(content: str = "1:aa", mode: str = "100644", owner: str = "0:0", xattrs: str = "") -> Facts:
    return (mode, owner, content, xattrs)


def test_each_kind_of_difference_is_told() -> None:
    before = {"a": facts(), "b": facts(), "c": facts(), "d": facts(), "gone": facts(), "same": facts()}
    after = {
        "a": facts("2:bb"),
        "b": facts(mode="100755"),
        "c": facts(owner="1:1"),
        "d": facts(xattrs="x"),
        "new": facts(),
        "same": facts(),
    }
    assert changed_files(before, after) == [
        ("a", "changed"),
        ("b", "mode 0644 → 0755"),
        ("c", "owner 0:0 → 1:1"),
        ("d", "extended attributes changed"),
        ("gone", "removed"),
        ("new", "added"),
    ]


def test_many_differences_are_counted() -> None:
    pairs = [("a", "changed"), ("b", "added"), ("c", "changed")]
    assert differences(pairs, 4) == "a, b (added), c"
    assert differences(pairs, 1) == "a and 2 more"


def test_manifests_are_known_at_once_and_from_disk(tmp_path: Path) -> None:
    manifests = Manifests(tmp_path / "m")
    assert manifests.load("sha256:aa") is None
    manifests.note("sha256:aa", {"f": facts()})
    assert manifests.load("sha256:aa") == {"f": facts()}
    assert manifests.usage() == 0
    manifests.save()
    again = Manifests(tmp_path / "m")
    assert again.load("sha256:aa") == {"f": facts()}
    assert again.usage() > 0
    again.clear()
    assert again.load("sha256:aa") is None
    assert not (tmp_path / "m").exists()


def test_damaged_and_half_written_manifests_count_for_nothing(tmp_path: Path) -> None:
    manifests = Manifests(tmp_path)
    (tmp_path / "aa").write_bytes(b"nonsense")
    (tmp_path / ".bb.tmp").write_bytes(b"half")
    assert manifests.load("sha256:aa") is None
    manifests.sweep()
    assert [path.name for path in tmp_path.iterdir()] == ["aa"]


def test_the_oldest_manifests_go_first(tmp_path: Path) -> None:
    manifests = Manifests(tmp_path / "m")
    for number in range(405):
        manifests.note(f"sha256:{number:03}", {})
    manifests.save()
    assert len(list((tmp_path / "m").iterdir())) == 400
