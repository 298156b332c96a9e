"""The daemon's configuration file and socket."""

from __future__ import annotations

import socket
import stat
from pathlib import Path

import pytest

from tare.daemon.config import load_settings
from tare.daemon.main import SOCKET_PATH_LIMIT, open_socket
from tare.errors import InvalidArgument, NotFound


def write(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "tare.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_defaults(tmp_path: Path) -> None:
    settings = load_settings(write(tmp_path, ""), {})
    assert settings.data_root == "/var/lib/tare"
    assert settings.run_directory == Path("/run/tare")
    assert settings.socket_path == Path("/run/tare/tare.sock")
    assert settings.build.host_ca is True
    assert (settings.build.keep_steps, settings.build.keep_days) == (10, 7.0)
    assert settings.archive.mirrors == []
    assert (settings.build.max_archive_ratio, settings.build.max_archive_entries) == (200, 1_000_000)


def test_file_and_overrides(tmp_path: Path) -> None:
    path = write(
        tmp_path, 'data_root = "/a"\n[build]\nhost_ca = false\n[archive]\nsuites = ["x"]\n[network]\nmtu = 1400\n'
    )
    settings = load_settings(path, {"data_root": None, "socket": "/s"})
    assert (settings.data_root, settings.socket_path) == ("/a", Path("/s"))
    assert (settings.run_directory, settings.network.mtu) == (Path("/a/run"), 1400)
    assert (settings.build.host_ca, settings.archive.suites) == (False, ["x"])
    assert load_settings(path, {"data_root": "/b", "run_root": "/r"}).socket_path == Path("/r/tare.sock")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("data_root = ", "Invalid value"),
        ("[build", "Expected"),
        ('data_rot = "/a"', "data_rot"),
        ("[build]\nhost_cb = true", r"host_cb.*build"),
        ("[builds]\nx = 1", "builds"),
        ("[build]\nhost_ca = 1", "Expected `bool`"),
        ('[build]\ncache_limit = "much"', r"tare.toml: 'much' is no amount of disk space"),
        ("[build]\ncache_limit = 7", "Expected `str`"),
        ('[build]\ncache_keep_recent = "2d"', "'2d' is no duration"),
        ("[build]\nkeep_steps = -1", "Expected `int` >= 0"),
        ("[build]\nkeep_days = -0.5", "Expected `float` >= 0"),
        ("data_root = 7", r"Expected `str`, got `int`.*data_root"),
        ("[archive]\nmirrors = 'x'", "Expected `array`"),
        ("[network]\nmtu = 'x'", "Expected `int`"),
        ("[build]\nmax_archive_bytes = 0", r"Expected `int` >= 1.*max_archive_bytes"),
        (b"data_root = '\xff'", "utf-8"),
    ],
)
def test_wrong_files_are_named(tmp_path: Path, text: str | bytes, words: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(InvalidArgument, match=words) as caught:
        load_settings(path, {})
    assert str(path) in str(caught.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no such configuration file"):
        load_settings(tmp_path / "none.toml", {})


def test_socket_replaces_a_dead_one(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "s"
    open_socket(path).close()
    with open_socket(path) as listener, socket.socket(socket.AF_UNIX) as client:
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        client.connect(str(path))
        assert listener.getsockname() == str(path)


def test_socket_path_that_is_too_long(tmp_path: Path) -> None:
    path = Path("/tmp") / ("s" * SOCKET_PATH_LIMIT)
    with pytest.raises(InvalidArgument, match=f"longer than {SOCKET_PATH_LIMIT} bytes"):
        open_socket(path)
    assert not path.exists()


def test_directory_in_the_way_of_the_socket(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="directory"):
        open_socket(tmp_path)


def test_registries(tmp_path: Path) -> None:
    text = """
    [registry]
    certificates = ["/c"]
    [registries."docker.io"]
    endpoint = "https://registry.example"
    mirrors = ["http://127.0.0.1:5000/cache"]
    """
    settings = load_settings(write(tmp_path, text), {})
    assert settings.registry.certificates == ("/c",)
    section = settings.registries["docker.io"]
    assert (section.endpoint, section.mirrors) == ("https://registry.example", ("http://127.0.0.1:5000/cache",))


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ('endpoint = "registry.example"', "expected https://HOST"),
        ('endpoint = "https://a:b@registry.example"', "log in instead"),
        ('mirrors = ["ftp://registry.example"]', "expected https://HOST"),
        ('certificate = "/c.cert"', "needs its key"),
        ('proxy = "socks5://127.0.0.1:1"', "expected http://HOST:PORT"),
        ("secure = false", "unknown field"),
    ],
)
def test_wrong_settings_of_registries(tmp_path: Path, entry: str, words: str) -> None:
    with pytest.raises(InvalidArgument, match=words):
        load_settings(write(tmp_path, f'[registries."docker.io"]\n{entry}\n'), {})
