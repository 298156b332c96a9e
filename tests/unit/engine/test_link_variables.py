"""The variables of a link, beside what Docker 28.5.2 gave for the same containers."""

from __future__ import annotations

from tare.engine.link_environment import link_variables
from tare.engine.links import read_link

EXPOSED = ("80/tcp", "81/tcp", "82/tcp", "8000/tcp", "80/udp", "90/udp", "91/udp")


def variables(**changed: object) -> dict[str, str]:
    given = {"name": "web", "alias": "db-x", "address": "10.0.0.2", "exposed": EXPOSED, "environment": ()}
    return dict(text.split("=", 1) for text in link_variables(**{**given, **changed}))  # type: ignore[arg-type]


def test_one_port() -> None:
    assert variables(exposed=["5432/tcp"]) == {
        "DB_X_PORT": "tcp://10.0.0.2:5432",
        "DB_X_PORT_5432_TCP": "tcp://10.0.0.2:5432",
        "DB_X_PORT_5432_TCP_ADDR": "10.0.0.2",
        "DB_X_PORT_5432_TCP_PORT": "5432",
        "DB_X_PORT_5432_TCP_PROTO": "tcp",
        "DB_X_NAME": "/web/db-x",
    }


def test_consecutive_ports_are_told_as_a_range_too() -> None:
    told = variables()
    assert told["DB_X_PORT"] == "tcp://10.0.0.2:80"
    assert told["DB_X_PORT_80_TCP_START"] == "tcp://10.0.0.2:80"
    assert told["DB_X_PORT_80_TCP_PORT_START"] == "80"
    assert told["DB_X_PORT_80_TCP_END"] == "tcp://10.0.0.2:82"
    assert told["DB_X_PORT_80_TCP_PORT_END"] == "82"
    assert told["DB_X_PORT_90_UDP_END"] == "udp://10.0.0.2:91"
    assert told["DB_X_PORT_81_TCP"] == "tcp://10.0.0.2:81"
    assert "DB_X_PORT_8000_TCP_START" not in told
    assert "DB_X_PORT_80_UDP_START" not in told
    assert sum("_PORT_" in name for name in told) == 7 * 4 + 2 * 4


def test_environment_of_the_target_without_what_says_nothing() -> None:
    told = variables(exposed=[], environment=["HOME=/x", "PATH=/bin", "EMPTY=", "X=a=b", "UNSET"])
    assert told == {"DB_X_NAME": "/web/db-x", "DB_X_ENV_EMPTY": "", "DB_X_ENV_X": "a=b"}


def test_forms_of_a_link() -> None:
    assert read_link("db:alias") == ("db", "alias")
    assert read_link("db") == ("db", "db")
    assert read_link("db:") == ("db", "db")
    assert read_link("/db:/web/alias") == ("db", "alias")
