"""What the options of macvlan networks mean, without a kernel."""

from __future__ import annotations

import pytest

from tare.errors import Conflict, InvalidArgument
from tare.network.macvlan import check_options, check_parent, heir_of_parent, parents_made, parse_vlan, read_options
from tare.network.model import Driver, Macvlan, Network


def network(name: str, parent: str, *, made: bool = False, mode: str = "bridge") -> Network:
    on = Macvlan(parent=parent, mode=mode, made=made)
    return Network(id=name * 12, name=name, driver=Driver.MACVLAN, created="", macvlan=on)


def test_a_parent_that_the_host_lacks_is_made() -> None:
    assert read_options({"parent": "eth0"}, "a" * 64, exists=True) == Macvlan(parent="eth0")
    asked = {"parent": "eth0.10", "macvlan_mode": "private"}
    assert read_options(asked, "a" * 64, exists=False) == Macvlan(parent="eth0.10", mode="private", made=True)
    for options in ({}, {"parent": "", "macvlan_mode": ""}):
        assert read_options(options, "a" * 64, exists=False) == Macvlan(parent="dm-aaaaaaaaaaaa", made=True)


@pytest.mark.parametrize("options", [{"parent": "lo"}, {"macvlan_mode": "source"}, {"macvlan_mode": "Bridge"}])
def test_what_no_host_can_have_is_refused(options: dict[str, str]) -> None:
    with pytest.raises(InvalidArgument) as caught:
        check_options(options)
    assert caught.value.code in ("macvlan-parent", "macvlan-mode")
    assert caught.value.hint


def test_the_name_of_a_sub_interface_is_interface_and_vlan() -> None:
    assert parse_vlan("eth0.10") == ("eth0", 10)
    assert parse_vlan("eth0.-1") == ("eth0", -1)
    assert parse_vlan(".4") == ("", 4)
    for bad in ("eth0", "eth0.", "eth0.1.2", "eth0.x", "eth0.1 ", "eth0.²"):
        with pytest.raises(InvalidArgument):
            parse_vlan(bad)


def test_a_parent_is_shared_but_in_mode_passthru() -> None:
    one, other = network("a", "eth0"), network("b", "eth0")
    check_parent(one, [one, other, Network(id="c", name="c", driver=Driver.BRIDGE, created="")])
    exclusive = network("p", "eth0", mode="passthru")
    check_parent(exclusive, [exclusive, network("d", "eth1")])
    with pytest.raises(Conflict, match=f"cannot use mode passthru, macvlan network {one.id} is already using"):
        check_parent(exclusive, [one, exclusive])
    with pytest.raises(Conflict, match="is already using parent interface eth0 in mode passthru"):
        check_parent(one, [exclusive, one])


def test_a_parent_that_was_made_passes_to_another_network_on_it() -> None:
    maker, guest, stranger = network("a", "eth0.10", made=True), network("b", "eth0.10"), network("c", "eth1")
    assert heir_of_parent(maker, [guest, stranger]) == guest
    assert heir_of_parent(maker, [stranger]) is None
    assert heir_of_parent(guest, [maker, stranger]) is None
    assert parents_made([maker, guest, stranger]) == {"eth0.10"}
