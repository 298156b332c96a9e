"""Engines that have nothing in common assemble the same images; ``make catalogue-proof`` tries the whole catalogue."""

from __future__ import annotations

import pytest
from two_engines import digests, two_engines

pytestmark = [pytest.mark.e2e, pytest.mark.root, pytest.mark.network, pytest.mark.timeout(180)]

NAMES = ("tare.local/distroless/static:12-nonroot", "tare.local/distroless/base:12-debug")


def test_two_engines_give_one_digest() -> None:
    with two_engines() as engines:
        made = dict(digests(engines, NAMES))
    assert list(made) == list(NAMES)
    for name, (first, second) in made.items():
        assert first == second, name
    assert len({first for first, _ in made.values()}) == len(NAMES), "a variant is an image of its own"
