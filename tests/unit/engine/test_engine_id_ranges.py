"""Ranges of ids: out of the pool, never one id twice, and what is given back is given again."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tare.engine.id_ranges import DEFAULT_COUNT, DEFAULT_FIRST, find_gap
from tare.errors import Exhausted
from tare.model.container import IdRange


@given(steps=st.lists(st.one_of(st.integers(1, 300), st.tuples(st.integers(0, 50))), max_size=60))
def test_no_id_is_given_twice(steps: list[int | tuple[int]]) -> None:
    taken: list[IdRange] = []
    for step in steps:
        if isinstance(step, tuple):
            if taken:
                taken.pop(step[0] % len(taken))
            continue
        try:
            taken.append(find_gap(taken, step, first=1000, count=2000))
        except Exhausted:
            used = {number for ids in taken for number in range(ids.first, ids.first + ids.size)}
            free = [number not in used for number in range(1000, 3000)]
            longest = max((len(list(run)) for is_free, run in itertools.groupby(free) if is_free), default=0)
            assert longest < step, "there was a gap"
        ordered = sorted(taken, key=lambda ids: ids.first)
        assert all(one.first + one.size <= other.first for one, other in itertools.pairwise(ordered))
        assert all(ids.first >= 1000 and ids.first + ids.size <= 3000 for ids in taken)


def test_the_pool_may_have_moved_since() -> None:
    old = [IdRange(first=100, size=50), IdRange(first=990, size=20), IdRange(first=5000, size=5)]
    assert find_gap(old, 10, first=1000, count=100) == IdRange(first=1010, size=10)


def test_the_default_pool_is_below_what_some_programs_take_for_negative() -> None:
    assert DEFAULT_FIRST + DEFAULT_COUNT <= 1 << 31
    assert DEFAULT_COUNT // 65536 == 4094


def test_an_empty_pool_names_itself() -> None:
    with pytest.raises(Exhausted, match="no 50 ids in a row are free for --userns auto: the pool is 10 to 49"):
        find_gap([], 50, first=10, count=40)
