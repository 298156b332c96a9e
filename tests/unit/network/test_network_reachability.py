"""Predictions: each case names who asks, the verdict, and the rule or cause that decides."""

from __future__ import annotations

import msgspec
import pytest
from network_topologies import LAN, endpoint, network, port, scene, topology

from tare.errors import InternalError, InvalidArgument, NotFound
from tare.network.explanation import Answer, explain, read_question
from tare.network.model import Driver, Subnet
from tare.network.packet import Packet, fits
from tare.network.reachability import Cause, Origin, Predictor, Verdict
from tare.network.rule_text import read_table
from tare.network.rule_walk import RuleWalk, Surroundings, _Reading
from tare.network.ruleset import render
from tare.network.topology import HOST, Listener, Topology

R, F, D, U = Verdict.REACHABLE, Verdict.REFUSED, Verdict.DROPPED, Verdict.UNROUTABLE


def ask(where: Topology, source: str, target: str, service: str = "") -> Answer:
    return explain(Predictor(where), read_question(source, target, service))


def deciding(answer: Answer) -> str:
    decision = answer.prediction.decision
    return decision.comment or decision.rule if decision else answer.prediction.cause.value


ISOLATED = "networks are isolated from each other"
UNPUBLISHED = "only published ports are reachable from outside"


@pytest.mark.parametrize(
    ("source", "target", "service", "verdict", "decides"),
    [
        ("login", "logout", "", R, "open"),
        ("logout", "login", "80", R, "open"),
        ("logout", "login", "53/udp", R, "open"),
        ("login", "logout", "80", F, "no-listener"),
        ("login", "logout", "80/udp", F, "no-listener"),
        ("login", "login", "80", R, "open"),
        ("login", "payment", "80", D, ISOLATED),
        ("login", "payment", "", D, ISOLATED),
        ("payment", "logout", "", D, ISOLATED),
        ("login", "10.0.1.1", "80", D, "another network's gateway"),
        ("login", "10.0.0.1", "", R, "open"),
        ("login", "10.0.0.77", "", D, "no-neighbour"),
        ("payment", LAN, "8080", R, "open"),
        ("login", LAN, "8080", R, "open"),
        ("logout", LAN, "8080", R, "open"),
        ("login", LAN, "9100", R, "open"),
        ("login", "outside", "443", R, "open"),
        ("host", "payment", "80", R, "open"),
        ("host", "127.0.0.1", "8081", R, "open"),
        ("host", LAN, "8080", R, "open"),
        ("host", LAN, "8081", F, "no-listener"),
        ("monitor", "login", "80", R, "open"),
        ("login", "monitor", "9100", R, "open"),
        ("login", "monitor", "9101", F, "no-listener"),
        ("outside", "host", "8080", R, "open"),
        ("outside", "host", "8081", F, "no-listener"),
        ("outside", "login", "80", R, "open"),
        ("outside", "payment", "80", D, "loopback"),
        ("outside", "10.0.0.2", "80", D, UNPUBLISHED),
        ("outside", "10.0.0.3", "", D, UNPUBLISHED),
        ("outside", "127.0.0.1", "8081", D, "loopback"),
        ("203.0.113.9", "host", "8080", R, "open"),
        ("login", "2001:db8::7", "", U, "no-route"),
    ],
)
def test_the_scene(source: str, target: str, service: str, verdict: Verdict, decides: str) -> None:
    answer = ask(scene(), source, target, service)
    assert (answer.prediction.verdict, deciding(answer)) == (verdict, decides), answer.prediction


def test_a_published_port_hairpins_and_shows_each_translation() -> None:
    prediction = ask(scene(), "login", LAN, "8080").prediction
    decided = [(hop.where, hop.decision) for hop in prediction.hops]
    assert ("firewall, prerouting/publish", "dnat to 10.0.0.2:80") in decided
    assert ("firewall, postrouting/into_bridge", "masquerade as 10.0.0.1") in decided
    assert prediction.place == "login-id"


def test_the_best_way_is_explained_and_the_others_are_named() -> None:
    answer = ask(scene(), "outside", "login", "80")
    assert (answer.prediction.address, answer.port) == (LAN, 8080)
    assert [(one.address, at, one.verdict) for one, at in answer.attempts] == [
        (LAN, 8080, R),
        ("10.0.0.2", 80, D),
    ]


def test_an_internal_network_reaches_neither_host_nor_outside_nor_is_reached() -> None:
    vault = network("vault", 2, internal=True)
    bridge = network("bridge", 0)
    where = topology([bridge, vault], [endpoint("a", vault, 2), endpoint("b", vault, 3), endpoint("c", bridge, 2)])
    assert ask(where, "a", "b").prediction.verdict is R
    assert ask(where, "a", "outside").prediction.cause is Cause.NO_ROUTE
    assert deciding(ask(where, "a", "10.0.2.1")) == "iifname @internal drop"
    assert deciding(ask(where, "outside", "10.0.2.2")) == "oifname @internal drop"
    assert ask(where, "c", "a").prediction.verdict is D
    assert ask(where, "a", "c").prediction.verdict is U


def test_containers_of_a_network_without_icc_are_kept_apart_by_ports_and_by_rules() -> None:
    quiet = network("quiet", 3, icc=False)
    one, two = endpoint("one", quiet, 2), endpoint("two", quiet, 3)
    where = topology(
        [quiet], [one, two], published=[(two, port(8080, 80))], listening={"two": [("tcp", "0.0.0.0", 80)]}
    )
    answer = ask(where, "one", "10.0.3.3", "80")
    assert (answer.prediction.verdict, answer.prediction.cause) == (D, Cause.ISOLATED_PORTS)
    assert ask(where, "outside", "two", "80").prediction.verdict is R


def test_without_bridge_filtering_no_rule_is_asked_within_a_network() -> None:
    answer = ask(scene(bridge_filtering=False), "login", "logout")
    assert answer.prediction.verdict is R
    assert "bridged packets pass no firewall" in [hop.rule for hop in answer.prediction.hops]


def test_a_container_on_two_networks_answers_on_each_but_does_not_pass_packets_on() -> None:
    bridge, bank = network("bridge", 0), network("bank", 1)
    both = [endpoint("both", bridge, 9), endpoint("both", bank, 9, interface="eth1", default_route=False)]
    where = topology([bridge, bank], [endpoint("login", bridge, 2), endpoint("payment", bank, 2), *both])
    assert ask(where, "login", "both").prediction.address == "10.0.0.9"
    assert ask(where, "payment", "both").prediction.address == "10.0.1.9"
    assert ask(where, "both", "payment").prediction.verdict is R
    assert deciding(ask(where, "login", "10.0.1.9")) == ISOLATED


def test_each_family_has_its_own_way_out() -> None:
    """IPv4 leads out of one network and IPv6 of another, as containers have it that are on both."""
    four = network("four", 0)
    pool4, pool6 = Subnet(subnet="10.0.1.0/24", gateway="10.0.1.1"), Subnet(subnet="fd00:1::/64", gateway="fd00:1::1")
    six = network("six", 1, subnets=(pool4, pool6))
    there = endpoint("both", six, 2, interface="eth1", default_route=False)
    mine6 = msgspec.structs.replace(there, address6="fd00:1::2", prefix_len6=64, gateway6="fd00:1::1")
    where = topology([four, six], [endpoint("both", four, 2, default_route6=False), mine6])
    for address, by in (("198.51.100.1", "tr-four"), ("2001:db8::1", "tr-six")):
        prediction = ask(where, "both", address).prediction
        assert (prediction.verdict, prediction.delivered and prediction.delivered.iif) == (R, by)


def test_an_answer_needs_a_way_back() -> None:
    bridge = network("bridge", 0)
    mute = endpoint("mute", bridge, 2, gateway="", default_route=False)
    where = topology([bridge], [mute], published=[(mute, port(8080, 80))])
    answer = ask(where, "outside", LAN, "8080")
    assert (answer.prediction.verdict, answer.prediction.cause) == (D, Cause.NO_WAY_BACK)


def test_the_network_none_has_no_route() -> None:
    none = network("none", 8, driver=Driver.NONE, subnets=(), bridge_name="")
    alone = msgspec.structs.replace(endpoint("alone", network("x", 8), 2), network_id=none.id, address="", gateway="")
    where = topology([none, network("bridge", 0)], [alone, endpoint("login", network("bridge", 0), 2)])
    answer = ask(where, "alone", "login")
    assert (answer.prediction.verdict, answer.prediction.cause) == (U, Cause.NO_ROUTE)
    assert answer.allow == ("tare network disconnect none alone && tare network connect bridge alone",)
    with pytest.raises(InvalidArgument, match="alone has no address") as caught:
        ask(where, "login", "alone")
    assert caught.value.code == "no-address"


@pytest.mark.parametrize(
    ("source", "target", "service", "first"),
    [
        ("login", "payment", "80", "tare network connect bank login"),
        ("login", "logout", "80", "start what is to listen on tcp port 80 in logout"),
        ("outside", "logout", "80", "run logout anew with -p HOST_PORT:80/tcp"),
        ("outside", "payment", "80", "run payment anew with -p 8081:80/tcp instead of -p 127.0.0.1:8081:80/tcp"),
        ("login", "10.0.1.1", "", "use the host's address on login's own network: 10.0.0.1"),
    ],
)
def test_what_would_allow_it(source: str, target: str, service: str, first: str) -> None:
    assert ask(scene(), source, target, service).allow[0] == first


def test_a_listener_on_loopback_is_named() -> None:
    where = scene(listening={"logout": [("tcp", "127.0.0.1", 80)]})
    answer = ask(where, "login", "logout", "80")
    assert answer.allow == ("let logout listen on 0.0.0.0 instead of 127.0.0.1",)


@pytest.mark.parametrize(
    ("words", "error", "said"),
    [
        (("nobody", "login", ""), NotFound, "no running container is called nobody"),
        (("login", "nobody", "80"), NotFound, "no running container is called nobody"),
        (("login", "logout", "0"), InvalidArgument, "not in 1-65535"),
        (("login", "logout", "http"), InvalidArgument, "not in 1-65535"),
        (("login", "logout", "80/quic"), InvalidArgument, "unknown protocol 'quic'"),
        (("", "logout", ""), InvalidArgument, "from is missing"),
        (("2001:db8::1", "login", ""), InvalidArgument, "no address that 2001:db8::1 could send to"),
    ],
)
def test_questions_that_cannot_be_asked(words: tuple[str, str, str], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        ask(scene(), *words)


# --- the evaluation of rules ----------------------------------------------------------------------------------------

EVERYWHERE = Surroundings(is_local=lambda address: address == "10.0.0.1", address_on=lambda name, version: "10.9.9.9")


def walk(rules: str, sets: str = "") -> RuleWalk:
    text = (
        f"table inet t {{\n{sets}\nchain c {{\ntype filter hook input priority filter; policy accept;\n{rules}\n}}\n}}"
    )
    return RuleWalk(read_table(text), EVERYWHERE)


@pytest.mark.parametrize(
    ("rule", "verdict"),
    [
        ('iifname "br*" drop', "drop"),
        ('iifname != "br0" drop', "accept"),
        ("ip saddr 10.0.0.0/8 drop", "drop"),
        ("ip saddr != 10.0.0.0/8 drop", "accept"),
        ("ip6 saddr != fd00::/8 drop", "accept"),  # no IPv6 packet, so neither equal nor different
        ("tcp dport { 22, 80-90 } drop", "drop"),
        ("udp dport 80 drop", "accept"),
        ("meta l4proto . th dport { tcp . 80 } reject with icmpx admin-prohibited", "reject"),
        ("ct state established,related accept\ndrop", "drop"),
        ("ct state new,related accept\ndrop", "accept"),
        ("ct status dnat drop", "accept"),
        ("iifname . ip saddr vmap { br0 . 10.0.0.2 : drop }", "drop"),
        ("counter packets 3 bytes 90 drop", "drop"),
        ('log prefix "x: " level info drop', "drop"),
        ("meta mark set 0x2\nmeta mark 2 drop", "drop"),
        ("ct mark set 7\nmeta mark set ct mark\nmeta mark 0x7 drop", "drop"),
        ("fib daddr type local drop", "accept"),
        ("ip saddr 10.0.0.1-10.0.0.9 drop", "drop"),
        ('tcp dport 80 drop comment "no, accept"', "drop"),
    ],
)
def test_notation(rule: str, verdict: str) -> None:
    packet = Packet("10.0.0.2", "10.0.0.3", "tcp", 80, iif="br0")
    assert walk(rule).at("input", packet).verdict == verdict


def test_jumps_return_and_gotos_do_not() -> None:
    text = """table inet t {
      chain c {
        type filter hook input priority filter; policy accept;
        tcp dport 80 jump a
        drop
      }
      chain a {
        return
      }
      chain d {
        type filter hook input priority raw + 5; policy accept;
        tcp dport 81 goto a
        drop
      }
    }"""
    rules = RuleWalk(read_table(text), EVERYWHERE)
    decisions = rules.at("input", Packet("10.0.0.2", "10.0.0.3", "tcp", 81)).decisions
    assert [(one.chain, one.action) for one in decisions] == [("d", "goto a"), ("a", "return"), ("c", "drop")]


@pytest.mark.parametrize("rule", ["numgen inc mod 2 0 drop", "ip ttl 3 drop", "meta mark set meta mark or 1", "frob"])
def test_a_rule_that_is_not_understood_is_an_error_and_no_guess(rule: str) -> None:
    with pytest.raises(InternalError) as caught:
        walk(rule).at("input", Packet("10.0.0.2", "10.0.0.3", "tcp", 80))
    assert caught.value.code == "rule-not-modelled"


def test_elements_cost_nothing_by_their_number_and_intervals_match() -> None:
    sets = "map m {\ntype inet_service : verdict\nelements = { 1-79 : accept, 80 : drop }\n}"
    assert walk("tcp dport vmap @m", sets).at("input", Packet("10.0.0.2", "10.0.0.3", "tcp", 80)).verdict == "drop"
    assert fits("10.0.0.7", "10.0.0.0/24")
    assert not fits("fd00::7", "10.0.0.0/24")
    assert not fits("tcp", "1-9")


def test_every_rule_of_the_engines_table_is_understood() -> None:
    """Whoever adds a rule in new notation learns here that predictions do not know it."""
    state = scene().firewall
    table = read_table(render("tare", state))
    packets = [
        Packet(source, target, protocol, 80, iif=iif, oif=oif, state=state, translated=translated, local=local)
        for source, target in (("10.0.0.2", "10.0.1.2"), ("fd00::2", "fd00::3"))
        for protocol in ("tcp", "udp", "sctp", "icmp")
        for iif, oif in (("tr-bridge", "tr-bank"), ("outside", "tr-bank"), ("tr-bank", "outside"), ("lo", ""))
        for state, translated in (("new", False), ("new", True), ("established", False))
        for local in (True, False)
    ]
    for chain in table.chains.values():
        for rule in chain.rules:
            for packet in packets:
                _Reading(rule, packet, table.sets, EVERYWHERE).run()


@pytest.mark.parametrize(
    ("listener", "address", "served"),
    [
        (Listener("tcp", "0.0.0.0", 80), "10.0.0.2", True),
        (Listener("tcp", "0.0.0.0", 80), "fd00::2", False),
        (Listener("tcp", "::", 80), "10.0.0.2", True),
        (Listener("tcp", "::", 80, only6=True), "10.0.0.2", False),
        (Listener("tcp", "::", 80, only6=True), "fd00::2", True),
        (Listener("tcp", "127.0.0.1", 80), "10.0.0.2", False),
    ],
)
def test_who_a_listener_serves(listener: Listener, address: str, served: bool) -> None:
    assert listener.serves(address) is served


def test_origins_are_places() -> None:
    prediction = Predictor(scene()).predict(Origin(HOST), "10.0.0.2", "tcp", 80)
    assert prediction.open
    assert prediction.place == "login-id"
