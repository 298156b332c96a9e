from __future__ import annotations

import pytest

from tare.engine.network_filters import select, select_for_prune
from tare.errors import InvalidArgument
from tare.network.model import Driver, Network

NETWORKS = [
    Network(id="a" * 64, name="bridge", driver=Driver.BRIDGE, created="2026-01-01T00:00:00Z"),
    Network(id="b" * 64, name="none", driver=Driver.NONE, created="2026-01-01T00:00:00Z"),
    Network(id="c" * 64, name="shop", driver=Driver.BRIDGE, created="2026-01-02T00:00:00Z", labels={"k": "v"}),
    Network(id="d" * 64, name="bank", driver=Driver.BRIDGE, created="2026-01-03T00:00:00Z", labels={"k": ""}),
]
NOW = 1767571200.0  # 2026-01-05


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        ({}, "bridge none shop bank"),
        ({"name": ["o", "zz"]}, "none shop"),
        ({"id": ["cc", "dd"]}, "shop bank"),
        ({"driver": ["null"]}, "none"),
        ({"label": ["k"]}, "shop bank"),
        ({"label": ["k", "k=v"]}, "shop"),
        ({"type": ["custom"]}, "shop bank"),
        ({"type": ["builtin", "custom"]}, "bridge none shop bank"),
        ({"scope": ["swarm"]}, ""),
        ({"dangling": ["true"]}, "bank"),
        ({"dangling": ["0"]}, "bridge none shop"),
        ({"name": []}, "bridge none shop bank"),
    ],
)
def test_filters_of_ls(filters: dict[str, list[str]], names: str) -> None:
    assert [network.name for network in select(NETWORKS, filters, {"c" * 64})] == names.split()


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        ({}, "shop bank"),
        ({"until": ["60h"]}, "shop"),
        ({"until": ["2026-01-02T12:00:00Z"]}, "shop"),
        ({"label": ["k=v"]}, "shop"),
        ({"label!": ["k=v"]}, "bank"),
    ],
)
def test_filters_of_prune(filters: dict[str, list[str]], names: str) -> None:
    assert [network.name for network in select_for_prune(NETWORKS, filters, NOW)] == names.split()


@pytest.mark.parametrize(
    ("filters", "why"),
    [
        ({"nonsense": ["1"]}, "invalid filter 'nonsense'"),
        ({"type": ["x"]}, "invalid filter: 'type'='x'"),
        ({"dangling": ["x"]}, "invalid value for filter 'dangling'"),
        ({"dangling": ["1", "0"]}, "invalid value for filter 'dangling'"),
    ],
)
def test_bad_filters(filters: dict[str, list[str]], why: str) -> None:
    with pytest.raises(InvalidArgument, match=why):
        select(NETWORKS, filters, set())


@pytest.mark.parametrize("filters", [{"until": ["x"]}, {"until": ["1h", "2h"]}, {"name": ["a"]}])
def test_bad_filters_of_prune(filters: dict[str, list[str]]) -> None:
    with pytest.raises(InvalidArgument):
        select_for_prune(NETWORKS, filters, NOW)
