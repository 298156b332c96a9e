from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tare.store.gc import Node, unreachable

NODES = st.builds(Node, st.sampled_from(["layer", "snapshot"]), st.sampled_from("abcdefgh"))
GRAPHS = st.dictionaries(NODES, st.lists(NODES, max_size=4), max_size=16)


def reach(roots: set[Node], references: dict[Node, list[Node]], nodes: set[Node]) -> set[Node]:
    """The slow definition: grow until nothing is added."""
    reached = roots & nodes
    while True:
        more = {to for source in reached for to in references.get(source, [])} & nodes
        if more <= reached:
            return reached
        reached |= more


@given(st.sets(NODES), st.sets(NODES), GRAPHS)
def test_garbage_is_exactly_what_no_root_reaches(
    nodes: set[Node], roots: set[Node], references: dict[Node, list[Node]]
) -> None:
    garbage = unreachable(nodes, roots, references)
    assert garbage == nodes - reach(roots, references, nodes)
    assert not garbage & roots


@given(st.sets(NODES, min_size=1), GRAPHS)
def test_without_roots_everything_goes(nodes: set[Node], references: dict[Node, list[Node]]) -> None:
    assert unreachable(nodes, (), references) == nodes


def test_cycles_end() -> None:
    a, b = Node("layer", "a"), Node("snapshot", "b")
    assert unreachable([a, b], [a], {a: [b], b: [a]}) == set()
    assert unreachable([a, b], [], {a: [b], b: [a]}) == {a, b}
