"""The catalogue, for people."""

from __future__ import annotations

from typing import Any

import pytest

from tare.api.schema.catalogue import render_shelf
from tare.cli.catalogue import lines_of, size_of, table_of
from tare.distroless.overview import find_offer, offers
from tare.engine.catalogue import Shelf
from tare.errors import NotFound
from tare.model import Digest, Reference
from tare.oci.image import ImageConfig
from tare.store.images import Image

IMAGE = Image(
    id=Digest.parse("sha256:" + "ab" * 32),
    config=ImageConfig(architecture="amd64", os="linux"),
    tags=(),
    size=24_123_456,
    created=0.0,
)


def shelf_of(name: str, *present: str, exact: bool = False) -> dict[str, Any]:
    offer = find_offer(name)
    here = tuple((Reference.parse(one), IMAGE) for one in present)
    return render_shelf(Shelf(offer=offer, present=here, size=IMAGE.size if exact else offer.size, exact=exact))


def test_the_table_has_every_repository_with_size_and_what_is_here() -> None:
    everything = [shelf_of(offer.repository) for offer in offers()[:-1]]
    nginx = next(one for one in everything if one["Repository"].endswith("/nginx"))
    nginx |= shelf_of("nginx", "tare.local/distroless/nginx:12", "tare.local/distroless/nginx:12-debug", exact=True)
    everything.append(shelf_of("deb", "tare.local/deb/hello:12", "tare.local/deb/hello:12-debug"))
    rows = {line.split()[0]: line for line in table_of(everything).splitlines() if line}
    assert rows["tare.local/distroless/nginx"].split()[1:4] == ["24.1MB", "12,", "12-debug"]
    assert rows["tare.local/distroless/static"].split()[1:3] == ["~2.9MB", "-"]
    assert rows["tare.local/deb/<package>[/<package>…]"].split()[1:4] == ["-", "2", "images"]
    assert {"tare.local/debian", "tare.local/distroless/java17", "Tags:"} <= rows.keys()


def test_a_repository_is_described() -> None:
    lines = list(lines_of(shelf_of("nginx", "tare.local/distroless/nginx:12", exact=True)))
    assert lines[0] == "tare.local/distroless/nginx"
    assert "  user:        0; -nonroot: 65532" in lines
    assert "  ports:       80/tcp; -nonroot: 8080/tcp" in lines
    assert "  stop signal: SIGQUIT" in lines
    assert lines[-1] == "    tare.local/distroless/nginx:12  abababababab  24.1MB  amd64"
    database = "\n".join(lines_of(shelf_of("postgresql")))
    assert "in -debug:   busybox, postgresql-client-15" in database
    assert "    libllvm14                 compiles long queries" in database
    assert "here:" not in database
    assert "nonroot" not in "\n".join(lines_of(shelf_of("debian")))


def test_sizes_say_whether_they_are_exact() -> None:
    assert size_of(shelf_of("base")) == "~21.6MB"
    assert size_of(shelf_of("base", exact=True)) == "24.1MB"
    assert size_of(shelf_of("deb")) == "-"
    assert all(offer.size for offer in offers()[:-1])


@pytest.mark.parametrize(
    ("name", "repository"),
    [
        ("nginx", "tare.local/distroless/nginx"),
        ("distroless/nginx", "tare.local/distroless/nginx"),
        ("tare.local/distroless/nginx:12-debug", "tare.local/distroless/nginx"),
        ("debian:12", "tare.local/debian"),
        ("deb/hello", "tare.local/deb/<package>[/<package>…]"),
    ],
)
def test_names(name: str, repository: str) -> None:
    assert find_offer(name).repository == repository


@pytest.mark.parametrize("name", ["ngix", "tare.local/distroless/ngix", "", "static/x", "docker.io/library/nginx"])
def test_unknown_names(name: str) -> None:
    with pytest.raises(NotFound, match="is not in the catalogue") as caught:
        find_offer(name)
    assert caught.value.code == "catalogue-unknown"
    assert "postgresql" in caught.value.hint
