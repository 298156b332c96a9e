from __future__ import annotations

from tare.cli.risk_notes import risks_of


def summary(mode: str = "bridge", *ports: tuple[str, int]) -> dict[str, object]:
    published = [{"IP": address, "PublicPort": port, "PrivatePort": 80, "Type": "tcp"} for address, port in ports]
    return {"Names": ["/web"], "HostConfig": {"NetworkMode": mode}, "Ports": [{"PrivatePort": 81}, *published]}


def test_what_is_a_risk_and_what_is_not() -> None:
    assert list(risks_of(summary())) == []
    assert list(risks_of(summary("bridge", ("127.0.0.1", 8080), ("192.0.2.1", 8081)))) == []
    assert list(risks_of(summary("host"))) == ["uses the host's network: not isolated from the host"]
    both = (("0.0.0.0", 8080), ("::", 8080))
    assert list(risks_of(summary("bridge", *both))) == [
        "published on every address of the host: 8080 (see `tare exposure`)"
    ]
    many = [("0.0.0.0", port) for port in range(8000, 8010)]
    assert list(risks_of(summary("bridge", *many))) == [
        "published on every address of the host: 8000, 8001, 8002 and 7 more (see `tare exposure`)"
    ]
