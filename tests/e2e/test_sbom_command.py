"""``tare sbom`` and the client's call, of an image that was built."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from engine_process import EngineProcess
from spdx_documents import valid_spdx
from tare.client.sync import connect

INFORMATION = "/site/thing-1.5.dist-info"
METADATA = "Metadata-Version: 2.1\\nName: thing\\nVersion: 1.5\\nLicense-Expression: MIT\\n"


@pytest.fixture(scope="module")
def image(engine: EngineProcess, busybox: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    assert busybox
    context = tmp_path_factory.mktemp("sbom")
    (context / "Dockerfile").write_text(
        f"FROM busybox\nRUN mkdir -p {INFORMATION}; printf '{METADATA}' > {INFORMATION}/METADATA;"
        f" printf 'thing.py,,\\n' > {INFORMATION}/RECORD; echo 1 > /site/thing.py; echo secret > /gone\n"
        "RUN rm /gone; echo mine > /mine\n"
    )
    engine.tare("build", "-q", "-t", "sbom-app", str(context))
    yield "sbom-app"
    engine.tare("rmi", "sbom-app")


def test_spdx_is_the_default_and_has_what_a_container_sees(engine: EngineProcess, image: str) -> None:
    text = engine.tare("sbom", image).stdout
    assert text == engine.tare("sbom", image).stdout, "the same bytes every time"
    document = valid_spdx(text)
    sums = {
        file["fileName"][1:]: next(one["checksumValue"] for one in file["checksums"] if one["algorithm"] == "SHA256")
        for file in document["files"]
    }
    script = "find / -xdev -type f ! -path '/proc/*' ! -path '/sys/*' ! -path '/dev/*' -exec sha256sum {} +"
    seen = engine.docker("run", "--rm", "--network", "none", image, "sh", "-c", script).stdout.decode()
    expected = {line.split("  ", 1)[1]: line.split("  ", 1)[0] for line in seen.splitlines()}
    for mounted in ("/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/.dockerenv"):
        expected.pop(mounted, None)
        sums.pop(mounted, None)
    assert sums == expected
    assert sums["/mine"] == hashlib.sha256(b"mine\n").hexdigest()
    thing = next(one for one in document["packages"] if one["name"] == "thing")
    assert thing["licenseDeclared"] == "MIT"
    assert thing["externalRefs"][0]["referenceLocator"] == "pkg:pypi/thing@1.5"
    created = json.loads(engine.docker("image", "inspect", image).stdout)[0]["Created"]
    assert document["creationInfo"]["created"][:19] == created[:19]


def test_cyclonedx_to_a_file_and_over_the_client(engine: EngineProcess, image: str, tmp_path: Path) -> None:
    file = tmp_path / "bom.json"
    done = engine.tare("sbom", "--format", "cyclonedx-json", "-o", str(file), image)
    assert not done.stdout
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(file.read_text()) is None
    document: dict[str, Any] = json.loads(file.read_text())
    assert [one["name"] for one in document["components"] if one["type"] == "library"] == ["thing"]
    with connect(engine.host) as connection:
        pieces = connection.stream(lambda client: client.images.sbom(image, kind="cyclonedx-json"))
        assert b"".join(pieces) == file.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nothing-here",), "No such image: nothing-here:latest"),
        (("--format", "xml", "busybox"), "'xml' is not one of 'spdx-json', 'cyclonedx-json'"),
        (("-o", "/no/such/place/x", "busybox"), 'directory "/no/such/place" does not exist'),
    ],
)
def test_what_cannot_be_done_is_said(engine: EngineProcess, image: str, arguments: tuple[str, ...], words: str) -> None:
    done = engine.tare("sbom", *arguments, check=False)
    assert done.returncode != 0
    assert words in done.stderr.decode()
    assert not done.stdout


def test_a_file_that_is_there_stays_when_nothing_can_be_written(
    engine: EngineProcess, image: str, tmp_path: Path
) -> None:
    file = tmp_path / "bom.json"
    file.write_text("before")
    assert engine.tare("sbom", "-o", str(file), "nothing-here", check=False).returncode != 0
    assert file.read_text() == "before"
    assert list(tmp_path.iterdir()) == [file]
