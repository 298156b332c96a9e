"""What a policy chooses: limits, order, what stands on what."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tare.build.cache_ledger import CACHE_MOUNT, REGULAR, CacheRecord, Entry, removal_order
from tare.build.cache_policy import (
    CacheLimits,
    DiskSpace,
    Policy,
    choose,
    collection_policies,
    keep_bytes,
    private_size,
)
from tare.errors import InvalidArgument

GB = 1024**3


def entry(name: str, *, used: float = 0.0, size: int = 10, needs: str = "", **options: object) -> Entry:
    record = CacheRecord(
        **{"type": REGULAR, **options}, id=name, description=name, size=size, created=0.0, last_used=used
    )
    return Entry(record=record, rows=(), nodes=frozenset(), needs=frozenset(needs))


def entries(*made: Entry) -> dict[str, Entry]:
    return {one.record.id: one for one in made}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("20GB", DiskSpace(size=20 * GB)),
        ("1.5g", DiskSpace(size=3 * GB // 2)),
        ("512MiB", DiskSpace(size=512 * 1024**2)),
        ("7", DiskSpace(size=7)),
        ("0", DiskSpace()),
        ("10%", DiskSpace(percent=10.0)),
        ("12.5 %", DiskSpace(percent=12.5)),
    ],
)
def test_amounts_of_space(text: str, expected: DiskSpace) -> None:
    assert DiskSpace.parse(text) == expected


@pytest.mark.parametrize("text", ["", "%", "101%", "-1", "ten", "5XB", "1e3", "10%%"])
def test_what_is_no_amount(text: str) -> None:
    with pytest.raises(InvalidArgument, match=re.escape(repr(text))):
        DiskSpace.parse(text)


def test_the_default_limit_is_a_share_of_the_disk_with_a_bound() -> None:
    limits = CacheLimits.parse("", "")
    assert limits.limit.of(100 * 10**9) == 10 * 10**9
    assert limits.limit.of(4000 * 10**9) == 50 * 10**9
    assert CacheLimits.parse("25%", "30m") == CacheLimits(limit=DiskSpace(percent=25.0), keep_recent=1800.0)
    with pytest.raises(InvalidArgument, match="'2 days' is no duration"):
        CacheLimits.parse("", "2 days")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, None),
        ({"max_used": 40}, 40),
        ({"reserved": 60}, 60),
        ({"max_used": 40, "reserved": 60}, 60),
        ({"min_free": 20}, 100),  # there is as much: nothing needs to go
        ({"min_free": 70}, 80),
        ({"min_free": 70, "max_used": 90}, 80),
        ({"min_free": 70, "max_used": 50}, 50),
        ({"min_free": 70, "reserved": 95}, 95),
        ({"min_free": 1000}, None),
    ],
)
def test_what_may_be_kept(options: dict[str, int], expected: int | None) -> None:
    assert keep_bytes(100, 50, **options) == expected


def test_least_recently_used_first_and_none_before_what_stands_on_it() -> None:
    given = entries(
        entry("a", used=1), entry("b", used=9, needs="a"), entry("c", used=5), entry("d", used=2, needs="b")
    )
    assert list(removal_order(given, given)) == ["d", "c", "b", "a"]
    assert list(removal_order(given, ["a", "b", "c"])) == ["c"]
    assert list(removal_order(given, [])) == []


def test_a_pass_ends_when_little_enough_is_left() -> None:
    given = entries(entry("a", used=1), entry("b", used=2), entry("c", used=3, size=30))
    assert choose(given, Policy(keep=50)) == []
    assert choose(given, Policy(keep=45)) == ["a"]
    assert choose(given, Policy(keep=0)) == ["a", "b", "c"]
    assert choose(given, Policy()) == ["a", "b", "c"]


def test_what_images_have_counts_for_nothing_and_stays_unless_everything_goes() -> None:
    given = entries(
        entry("a", used=1, shared=True, dangling=False), entry("b", used=2), entry("c", used=3, dangling=False)
    )
    assert private_size(one.record for one in given.values()) == 20
    assert choose(given, Policy()) == ["b"]
    assert choose(given, Policy(keep=10)) == ["b"]
    assert choose(given, Policy(everything=True, keep=10)) == ["a", "b"]
    assert choose(given, Policy(everything=True)) == ["a", "b", "c"]


def test_what_is_used_now_or_was_recently_stays_with_what_it_stands_on() -> None:
    given = entries(entry("a", used=1), entry("b", used=2, needs="a", in_use=True), entry("c", used=8))
    assert choose(given, Policy(everything=True)) == ["c"]
    given = entries(entry("a", used=8), entry("b", used=8, needs="a"), entry("c", used=2))
    assert choose(given, Policy(before=5.0)) == ["c"]
    assert choose(given, Policy(matches=lambda record: record.id == "a")) == []


def test_cache_mounts_that_nobody_used_for_long_go_first() -> None:
    given = entries(
        entry("step", used=0, size=600 * 10**6),
        entry("old", used=100, type=CACHE_MOUNT),
        entry("new", used=900, type=CACHE_MOUNT),
    )
    limits = CacheLimits(limit=DiskSpace(size=GB), keep_recent=500.0)
    passes = [choose(given, policy) for policy in collection_policies(limits, 0, 1000.0)]
    assert passes == [["old"], [], []]
    assert choose(entries(entry("old", used=100, type=CACHE_MOUNT)), collection_policies(limits, 0, 1000.0)[0]) == []
    tight = CacheLimits(limit=DiskSpace(size=5))
    assert choose(given, collection_policies(tight, 0, 1000.0)[1]) == ["step", "old", "new"]
    unlimited = collection_policies(CacheLimits(limit=DiskSpace()), 10**12, 1000.0)
    assert [policy.keep for policy in unlimited] == [512 * 10**6]


NAMES = "abcdefgh"


@st.composite
def graphs(draw: st.DrawFn) -> dict[str, Entry]:
    """Records that stand on earlier ones."""
    made = []
    for number, name in enumerate(NAMES):
        needs = draw(st.sets(st.sampled_from(NAMES[:number]))) if number else set()
        used, size = draw(st.integers(0, 9)), draw(st.integers(0, 50))
        options = {"in_use": draw(st.booleans()), "dangling": draw(st.booleans())}
        made.append(entry(name, used=used, size=size, needs="".join(sorted(needs)), **options))
    return entries(*made)


@given(graphs(), st.one_of(st.none(), st.integers(0, 300)), st.booleans(), st.one_of(st.none(), st.integers(0, 9)))
def test_choices_are_sound(given: dict[str, Entry], keep: int | None, everything: bool, before: int | None) -> None:
    policy = Policy(everything=everything, before=before, keep=keep)
    chosen = choose(given, policy)
    assert len(set(chosen)) == len(chosen)
    left = dict(given)
    total = private_size(one.record for one in given.values())
    for name in chosen:
        record = given[name].record
        assert policy.allows(record)
        assert not any(name in other.needs for other in left.values() if other.record.id != name)
        assert keep is None or total > keep
        total -= record.size
        del left[name]
    stuck = not any(
        policy.allows(one.record) and not any(name in other.needs for other in left.values())
        for name, one in left.items()
    )
    assert stuck or (keep is not None and total <= keep)
