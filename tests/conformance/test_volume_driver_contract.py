"""What every volume driver promises (``volumes.driver``), run against each of them as root on real mounts."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tare.errors import InvalidArgument
from tare.volumes.driver import VolumeDriver, VolumeSpec
from tare.volumes.local import LocalDriver
from tare.volumes.plugin_client import PluginTimes
from tare.volumes.plugins import Plugins
from tare.volumes.s3 import S3Driver

pytestmark = pytest.mark.root

TESTS = Path(__file__).parents[1]


class Case:
    """A driver, and options with which it makes volumes."""

    def __init__(self, driver: VolumeDriver, options: dict[str, str]) -> None:
        self.driver = driver
        self.spec = VolumeSpec("volume-1", options)


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    server = subprocess.Popen(
        [sys.executable, TESTS / "s3_server.py"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert server.stdout is not None
    address = f"http://127.0.0.1:{server.stdout.readline().strip()}"
    urllib.request.urlopen(urllib.request.Request(f"{address}/bucket-1", method="PUT")).close()
    yield address
    server.kill()
    server.communicate()


@pytest.fixture(params=["local", "local mounted", "s3", "plugin"])
async def case(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Case]:
    if request.param == "local":
        yield Case(LocalDriver(tmp_path / "tare-volumes"), {})
    elif request.param == "local mounted":
        yield Case(LocalDriver(tmp_path / "tare-volumes"), {"type": "tmpfs", "device": "tmpfs"})
    elif request.param == "s3":
        keys = tmp_path / "keys"
        keys.write_text("KEY:SECRET")
        keys.chmod(0o600)
        address = request.getfixturevalue("bucket")
        options = {"bucket": "bucket-1", "endpoint": address, "credentials-file": str(keys), "prefix": "one"}
        yield Case(S3Driver(tmp_path / "tare-volumes", tmp_path / "run"), options)
    else:
        (tmp_path / "data").mkdir()
        arguments = [TESTS / "volume_plugin.py", tmp_path / "array.sock", tmp_path / "data"]
        server = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.PIPE)
        assert server.stdout is not None and await asyncio.to_thread(server.stdout.readline)
        plugins = Plugins(sockets=tmp_path, specs=(), times=PluginTimes(connect=1, work=10, ask=10))
        yield Case(await plugins.get("array"), {})
        server.kill()
        server.communicate()


async def test_life(case: Case) -> None:
    driver, spec = case.driver, case.spec
    await driver.create(spec)
    await driver.create(spec)
    found = await driver.find(spec)
    assert found is not None and found.name == spec.name
    if not driver.needs_mount(spec):
        assert await asyncio.to_thread(Path(found.mountpoint).is_dir)
        await driver.remove(spec)
        return
    place = await driver.mount(spec, "one")
    assert await driver.mount(spec, "one") == place == await driver.mount(spec, "two")
    await asyncio.to_thread((place / "file").write_text, "text")
    await driver.unmount(spec, "one", last=False)
    assert await asyncio.to_thread((place / "file").read_text) == "text"
    await driver.adopt(spec)
    await driver.unmount(spec, "two", last=True)
    await driver.unmount(spec, "two", last=True)
    assert f" {place} " not in await asyncio.to_thread(Path("/proc/self/mountinfo").read_text)
    await driver.remove(spec)
    await driver.remove(spec)


async def test_unmounted_before_it_was_mounted(case: Case) -> None:
    await case.driver.create(case.spec)
    if case.driver.needs_mount(case.spec):
        await case.driver.unmount(case.spec, "nobody", last=True)
    await case.driver.remove(case.spec)


async def test_capabilities_and_list(case: Case) -> None:
    capabilities = await case.driver.capabilities()
    await case.driver.create(case.spec)
    listed = [found.name for found in await case.driver.list()]
    assert listed == ([case.spec.name] if capabilities.listed else [])
    await case.driver.remove(case.spec)


async def test_options_that_are_refused_leave_nothing(case: Case) -> None:
    if (await case.driver.capabilities()).listed:
        wrong = VolumeSpec("volume-2", {"behave": "refuse-create"})
    else:
        wrong = VolumeSpec("volume-2", {"colour": "red"})
    with pytest.raises(InvalidArgument):
        await case.driver.create(wrong)
    assert "volume-2" not in [found.name for found in await case.driver.list()]
