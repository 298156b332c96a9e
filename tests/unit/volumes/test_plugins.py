from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from tare.errors import InvalidArgument, NotFound, Unavailable
from tare.volumes.plugin_client import PluginTimes, read_address
from tare.volumes.plugins import Plugins


def test_addresses(tmp_path: Path) -> None:
    (tmp_path / "one.spec").write_text("unix:///run/one.sock\n")
    assert read_address(tmp_path / "one.spec").address == "unix:///run/one.sock"
    document = {
        "Name": "two",
        "Addr": "https://example.org:1",
        "TLSConfig": {"CAFile": "/ca", "InsecureSkipVerify": True},
    }
    (tmp_path / "x.json").write_text(json.dumps(document))
    place = read_address(tmp_path / "x.json")
    assert (place.name, place.ca_file, place.insecure) == ("two", "/ca", True)


@pytest.mark.parametrize(
    ("name", "text"), [("a.spec", "gopher://x"), ("a.json", "{"), ("a.json", "{}"), ("a.json", "[]"), ("a.spec", "")]
)
def test_addresses_that_cannot_be_read(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InvalidArgument, match=f"{tmp_path}/{name}"):
        read_address(tmp_path / name)


async def test_sockets_come_first_and_nested_ones_count(tmp_path: Path) -> None:
    (tmp_path / "sockets" / "deep").mkdir(parents=True)
    (tmp_path / "specs").mkdir()
    (tmp_path / "sockets" / "file.sock").write_text("no socket")
    (tmp_path / "specs" / "deep.spec").write_text("unix:///elsewhere.sock")
    bound = socket.socket(socket.AF_UNIX)
    bound.bind(str(tmp_path / "sockets" / "deep" / "deep.sock"))  # nobody listens
    bound.close()
    plugins = Plugins(sockets=tmp_path / "sockets", specs=[tmp_path / "specs"], times=PluginTimes(connect=0.1))
    drivers, silent = await plugins.all()
    assert list(drivers) == [] and len(silent) == 1
    assert (
        f"cannot connect to plugin 'deep' at unix://{tmp_path}/sockets/deep/deep.sock: Connection refused" in silent[0]
    )
    with pytest.raises(Unavailable, match="error looking up volume plugin deep"):
        await plugins.get("deep")
    with pytest.raises(NotFound, match='error looking up volume plugin file: plugin "file" not found'):
        await plugins.get("file")
