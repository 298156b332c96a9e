"""What maintainer scripts would have done, compared with what they did on a real Debian (``record_effects.py``)."""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from distroless_executor import run_in
from record_effects import PACKAGES, RECORD
from test_distroless_images import Bench, cache

from tare.base.process import run
from tare.errors import Unsupported
from tare.store.images import Image
from tare.store.store import Store

pytestmark = [pytest.mark.root, pytest.mark.network]
__all__ = ["cache"]

NAME = f"tare.local/deb/{'/'.join(PACKAGES)}:12"

LEFT_OUT = {
    r"etc/(passwd|group|shadow|gshadow|subuid|subgid)-?": "compared by user",
    r"etc/(ca-certificates\.conf|machine-id|mtab|\.pwd\.lock)": "administration, and what belongs to one machine",
    r"etc/(init\.d|cron\.\w+|logrotate\.d|apparmor\.d|ufw|runit)/.*": "init system, scheduler, firewall",
    r"etc/ld\.so\.cache|etc/(nsswitch\.conf|environment)": "compared by library, or the image's own",
    r"run/(systemd|log|user|udev|runit|sendsigs\.omit\.d|adduser|shm|lock/subsys).*": "of the init system",
    r"tmp/.*|root/.*": "left behind",
    r"usr/share/(man|doc|info|locale|perl5|bash-completion|bug)/.*": "documentation",
    r"usr/lib/python3.*/__pycache__.*|.*\.pyc": "the interpreter makes it",
    r"usr/local/.*": "for what an administrator installs",
    r"var/(lib/(systemd|private|dbus/machine-id|python|pam).*|cache/(private|ldconfig|man).*)": "of missing tools",
    r"var/log/(README|[a-z]+\.log|journal|private|lastlog|[bw]tmp|faillog).*": "logs of the system",
    r"etc/alternatives/.*\.gz": "manual pages",
}
"""What Debian has and images do not, with the reason."""

DIFFERENT = {
    "var/lib/nginx": "nginx may run without root",
    "var/log/nginx": "nginx may run without root",
    "usr/bin/ssh-agent": "no special permissions",
}


@pytest.fixture(scope="module")
def recorded() -> dict:
    return json.loads(RECORD.read_text())


@pytest.fixture
async def bench(tmp_path: Path, cache: Path) -> AsyncIterator[Bench]:
    store = await Store.open(tmp_path / "data")
    yield Bench(store, cache)
    await store.close()


def names(bench: Bench, image: Image, path: str) -> tuple[dict[int, str], dict[str, list[str]]]:
    lines = [line.split(":") for line in bench.read(image, path).decode().splitlines()]
    return {int(fields[2]): fields[0] for fields in lines}, {fields[0]: fields for fields in lines}


def described(item: tarfile.TarInfo, users: dict[int, str], groups: dict[int, str]) -> list[str]:
    kind = {tarfile.DIRTYPE: "d", tarfile.SYMTYPE: "l"}.get(item.type, "f")
    owner, group = users.get(item.uid, str(item.uid)), groups.get(item.gid, str(item.gid))
    return [kind, f"{item.mode:o}", owner, group, item.linkname if kind == "l" else ""]


async def test_images_have_what_scripts_make_on_debian(bench: Bench, recorded: dict) -> None:
    image = await bench.image(NAME)
    check_members(bench, image, recorded)
    check_users(bench, image, recorded)
    await check_loader(bench, image, recorded)


def check_members(bench: Bench, image: Image, recorded: dict) -> None:
    members = bench.members(image)
    numbers, _ = names(bench, image, "etc/passwd")
    groups, _ = names(bench, image, "etc/group")
    wrong = {}
    for path, expected in recorded["members"].items():
        if any(re.fullmatch(pattern, path) for pattern in LEFT_OUT) or path in DIFFERENT:
            continue
        found = described(members[path], numbers, groups) if path in members else None
        if found != expected:
            wrong[path] = (expected, found)
    assert not wrong, wrong
    assert len(recorded["members"]) > 100


def check_users(bench: Bench, image: Image, recorded: dict) -> None:
    _, users = names(bench, image, "etc/passwd")
    groups, _ = names(bench, image, "etc/group")
    for name, (group, _, home) in recorded["users"].items():
        if name.startswith("systemd-"):
            continue
        fields = users[name]
        assert (groups[int(fields[3])], fields[5]) == (group, home), name
        assert 200 <= int(fields[2]) < 900


async def check_loader(bench: Bench, image: Image, recorded: dict) -> None:
    """ldconfig makes the same cache of the image, and the loader finds a library that only the cache knows."""
    async with bench.mounted(image) as root:
        ours = (await run(["ldconfig", "-p", "-C", str(root / "etc/ld.so.cache")])).stdout.decode().splitlines()[1:]
        (root / "etc/ld.so.conf").write_text("include /etc/ld.so.conf.d/*.conf\n")
        await run(["ldconfig", "-X", "-r", str(root), "-C", "/reference"])
        theirs = (await run(["ldconfig", "-p", "-C", str(root / "reference")])).stdout.decode().splitlines()[1:]
        assert ours == [line for line in theirs if not line.startswith("Cache generated")]
        (root / "etc/ld.so.conf").unlink()
        status, output = await run_in(
            root, ("/lib64/ld-linux-x86-64.so.2", "--preload", "libfakeroot-0.so", "--list", "/usr/bin/nano")
        )
    assert status == 0, output
    assert b"/usr/lib/x86_64-linux-gnu/libfakeroot/libfakeroot-0.so" in output, "found by the cache alone"
    assert {line.strip() for line in ours} <= set(recorded["libraries"])


async def test_a_script_that_matters_gives_no_image(bench: Bench, cache: Path) -> None:
    with pytest.raises(Unsupported) as caught:
        await bench.image("tare.local/deb/exim4-config:12")
    message = caught.value.message
    assert "exim4-config: postinst line 205: update-exim4defaults --init: what update-exim4defaults does" in message
    assert "accept-scripts: [exim4-config]" in caught.value.hint
    assert await bench.store.images.list() == []
    assert not list(cache.glob("unpacked-*"))
