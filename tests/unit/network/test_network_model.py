from __future__ import annotations

import pytest

from tare.errors import InvalidArgument, Unsupported
from tare.network.model import (
    Driver,
    Endpoint,
    Network,
    PortRequest,
    bridge_interface,
    mac_from_address,
    owns_interface,
)
from tare.network.names import ResolverConfig, container_resolver, host_resolver, hosts_file, parse_resolv_conf
from tare.network.ports import normalise


def test_interface_names_fit_and_belong_to_one_engine() -> None:
    identifier = "0123456789abcdef" * 4
    names = {
        ("", True): "tare0",
        ("", False): "tr-0123456789ab",
        ("facade", True): "trfacade-0",
        ("facade", False): "trfacade-012345",
    }
    for (instance, default), name in names.items():
        assert bridge_interface(instance, identifier, default=default) == name
        assert len(name) <= 15
        assert owns_interface(instance, name)
        assert not owns_interface("" if instance else "facade", name)
    assert not owns_interface("", "tr-office")


def test_a_mac_follows_from_the_address() -> None:
    assert mac_from_address("172.18.0.2") == "02:42:ac:12:00:02"


def test_names_of_an_endpoint_do_not_repeat() -> None:
    endpoint = Endpoint(
        id="e", network_id="n", network_name="n", container_id="c" * 64, container_name="web", aliases=("db", "web")
    )
    assert endpoint.dns_names == ("web", "db", "c" * 12)


def test_only_user_defined_bridges_resolve_names() -> None:
    def network(name: str, driver: Driver) -> Network:
        return Network(id="n", name=name, driver=driver, created="")

    assert network("shop", Driver.BRIDGE).resolves_names
    assert not network("bridge", Driver.BRIDGE).resolves_names
    assert not network("host", Driver.HOST).resolves_names


def test_resolv_conf_is_read_with_its_oddities() -> None:
    text = "# c\nnameserver 10.0.0.1 ; x\ndomain a.example\n"
    text += "search b.example c.example\noptions ndots:2\noptions edns0\nx\n"
    assert parse_resolv_conf(text) == ResolverConfig(("10.0.0.1",), ("b.example", "c.example"), ("ndots:2", "edns0"))


def test_loopback_resolvers_are_of_no_use_to_a_container() -> None:
    assert host_resolver(ResolverConfig(("127.0.0.53", "10.0.0.1", "::1", "fe80::1%eth0"))).nameservers == ("10.0.0.1",)
    assert host_resolver(ResolverConfig(("127.0.0.53",))).nameservers == ("8.8.8.8", "8.8.4.4")


def test_a_container_asks_the_embedded_server_or_the_hosts() -> None:
    host = ResolverConfig(("10.0.0.1",), ("example.org",), ())
    assert container_resolver(host, embedded=True).render() == (
        "nameserver 127.0.0.11\nsearch example.org\noptions ndots:0\n"
    )
    assert container_resolver(host, embedded=False).render() == "nameserver 10.0.0.1\nsearch example.org\n"
    own = container_resolver(host, embedded=False, dns=("9.9.9.9",), search=(".",), options=("ndots:5",))
    assert own.render() == "nameserver 9.9.9.9\noptions ndots:5\n"
    assert container_resolver(host, embedded=True, options=("ndots:5",)).options == ("ndots:5",)


def test_the_hosts_file_names_the_container() -> None:
    endpoint = Endpoint(
        id="e", network_id="n", network_name="n", container_id="c", container_name="web", address="10.0.0.2"
    )
    text = hosts_file(hostname="h", domainname="example", endpoints=[endpoint], extra_hosts=[("db", "10.9.9.9")])
    assert text.startswith("127.0.0.1\tlocalhost\n")
    assert text.endswith("10.9.9.9\tdb\n10.0.0.2\th.example h\n")


@pytest.mark.parametrize(
    ("request_", "kind", "message"),
    [
        (PortRequest(container_port=0), InvalidArgument, "invalid container port 0"),
        (PortRequest(container_port=80, host_port=70000), InvalidArgument, "invalid host port 70000"),
        (PortRequest(container_port=80, host_address="localhost"), InvalidArgument, "invalid host address localhost"),
        (PortRequest(container_port=80, protocol="icmp"), Unsupported, "cannot publish 80/icmp"),
    ],
)
def test_bad_port_requests(request_: PortRequest, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        normalise(request_)
