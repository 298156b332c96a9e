"""Which registry a client means to log in to."""

from __future__ import annotations

import pytest

from tare.engine.registry_logins import server_domain
from tare.errors import InvalidArgument


@pytest.mark.parametrize(
    ("server", "domain"),
    [
        ("", "docker.io"),
        ("https://index.docker.io/v1/", "docker.io"),
        ("docker.io", "docker.io"),
        ("r.example:5000", "r.example:5000"),
        ("r.example/v2/", "r.example"),
        ("http://r.example:5000/v2/", "r.example:5000"),
        ("[::1]:5000", "[::1]:5000"),
        ("name-without-dot", "name-without-dot"),
    ],
)
def test_domain_of_a_server(server: str, domain: str) -> None:
    assert server_domain(server) == domain


@pytest.mark.parametrize(
    "server", ["a b", "http://", "http://[::1/", "/v2/", "a\nb", "ä.example", "u:p@r.example", "-a"]
)
def test_servers_that_are_none(server: str) -> None:
    with pytest.raises(InvalidArgument, match="unable to parse server address") as caught:
        server_domain(server)
    assert caught.value.code == "registry-address"
