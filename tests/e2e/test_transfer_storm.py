"""A short storm (see ``tests/transfer_storm.py``; ``make transfer-storm`` has the long one)."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from faulty_registry import FaultyRegistry, layer_tar
from transfer_storm import KINDS, VICTIMS, Kind, Storm, Victim, storm

pytestmark = [pytest.mark.e2e, pytest.mark.root]

SEED = 11


@pytest.fixture(scope="module")
def weather() -> Iterator[Storm]:
    with storm(SEED) as made:
        yield made


@pytest.mark.parametrize("victim", VICTIMS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_transfer_that_was_struck_is_taken_up_again(weather: Storm, kind: Kind, victim: Victim) -> None:
    weather.round(kind, victim)


def test_what_a_broken_pull_has_left_is_pruned(weather: Storm) -> None:
    engine = weather.engine
    with FaultyRegistry() as registry:
        manifest = registry.put_image(
            "test/app:1", [layer_tar("pruned", b"pruned")], diff_ids=["sha256:" + "1" * 64] * 2
        )
        engine.docker("pull", f"{registry.address}/test/app:1", check=False)
    left = engine.data_root / "cache/downloads" / manifest["config"]["digest"].removeprefix("sha256:")
    os.utime(left, (0, 0))
    engine.docker("image", "prune", "-f")
    assert left.exists()
    engine.docker("image", "prune", "-af")
    assert not left.exists()
