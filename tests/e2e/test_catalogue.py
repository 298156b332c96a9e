"""The catalogue as its users see it, and services of it that run."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

import catalogue_programs as programs
from engine_process import EngineProcess
from tare.client.sync import connect
from tare.errors import NotFound

pytestmark = [pytest.mark.root, pytest.mark.network, pytest.mark.e2e, pytest.mark.timeout(180)]


@pytest.fixture(autouse=True)
def _images_go(engine: EngineProcess) -> Iterator[None]:
    before = names(engine)
    yield
    if made := sorted(names(engine) - before):
        engine.docker("rmi", "-f", *made)


def names(engine: EngineProcess) -> set[str]:
    return set(engine.text("images", "--format", "{{.Repository}}:{{.Tag}}").splitlines())


def test_nginx_serves_a_page_and_the_catalogue_knows_it(engine: EngineProcess) -> None:
    programs.check_nginx(engine)
    name, small = "tare.local/distroless/nginx", "tare.local/distroless/static"
    shown = next(line for line in engine.tare("catalogue").stdout.decode().splitlines() if name in line)
    assert shown.split()[1:3] == ["~24MB", "12-nonroot"], "a variant says nothing exact about the plain image"
    engine.docker("pull", f"{small}:12")
    size = int(engine.text("inspect", "-f", "{{.Size}}", f"{small}:12"))
    found = json.loads(engine.tare("catalogue", "static", "--json").stdout)
    assert (found["Size"], found["SizeIs"]) == (size, "exact")
    assert [image["Name"] for image in found["Present"]] == [f"{small}:12"]
    with connect(engine.host) as connection:
        assert connection.run(lambda client: client.catalogue.get(f"{small}:12")) == found
        assert found in connection.run(lambda client: client.catalogue.list())
        with pytest.raises(NotFound, match=r"did you mean nginx\?"):
            connection.run(lambda client: client.catalogue.get("ngix"))
    unknown = engine.tare("catalogue", "ngix", check=False)
    assert unknown.returncode == 1 and b"ngix is not in the catalogue" in unknown.stderr
