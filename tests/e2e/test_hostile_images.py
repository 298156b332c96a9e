"""Images made to do harm, given to a running engine by Docker's command line."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile

import pytest

from engine_process import EngineProcess, add_file
from hostile_tars import END, link, member, pax

WATCHDOG = {"major": b"0000012\0", "minor": b"0000202\0"}  # 10:130, which runs from when it is opened


def imported(host: EngineProcess, rootfs: bytes, *parts: bytes) -> str:
    """An image of busybox's files and further members."""
    end = rootfs.rstrip(b"\0")
    whole = rootfs[: len(end) + -len(end) % 512]
    return host.docker("import", "-", stdin=whole + b"".join(parts) + END).stdout.decode().strip()


@pytest.mark.parametrize(
    ("tar", "words"),
    [
        (member(b"../../../etc/cron.d/evil", b"* * * * * root true\n"), "path leads outside with '..'"),
        (link(b"a", b"../../etc/shadow", b"1"), "path leads outside with '..'"),
        (pax({b"path": b"n" * 100_000}) + member(b"x"), "path is too long (100000 bytes)"),
        (member(b"x", flag=b"S"), "sparse file"),
        (member(b"x")[:300], "ends within"),
        (b"no tar at all" * 100, "damaged header"),
    ],
)
def test_hostile_layers_are_refused_and_leave_nothing(host: EngineProcess, tar: bytes, words: str) -> None:
    images, layers = host.text("images", "-aq"), os.listdir(host.data_root / "layers")
    refused = host.docker("import", "-", "hostile:latest", stdin=tar + END if len(tar) % 512 == 0 else tar, check=False)
    assert refused.returncode != 0 and words in refused.stderr.decode()
    assert host.text("images", "-aq") == images and os.listdir(host.data_root / "layers") == layers
    assert os.listdir(host.data_root / "staging") == []


@pytest.mark.parametrize("packed", [False, True])
def test_hostile_layers_of_archives_are_refused_and_leave_nothing(host: EngineProcess, packed: bool) -> None:
    images, layers = host.text("images", "-aq"), os.listdir(host.data_root / "layers")
    good, evil = member(b"a", b"1") + END, member(b"../x", b"1") + END
    refused = host.docker("load", stdin=archive("hostile:latest", [good, evil], packed=packed), check=False)
    assert refused.returncode != 0
    said = refused.stderr.decode()
    assert "layer 1 (sha256:" in said and "path leads outside with '..'" in said
    assert host.text("images", "-aq") == images and os.listdir(host.data_root / "layers") == layers
    assert os.listdir(host.data_root / "staging") == []


def archive(name: str, layers: list[bytes], *, packed: bool) -> bytes:
    """What ``docker save`` would have written, the layers with gzip if ``packed``."""
    rootfs = {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in layers]}
    document = {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": rootfs}
    config = json.dumps(document).encode()
    places = [f"{number}/layer.tar" for number in range(len(layers))]
    manifest = json.dumps([{"Config": "config.json", "RepoTags": [name], "Layers": places}]).encode()
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as tar:
        add_file(tar, "config.json", config)
        for place, layer in zip(places, layers, strict=True):
            add_file(tar, place, gzip.compress(layer) if packed else layer)
        add_file(tar, "manifest.json", manifest)
    return sink.getvalue()


def test_devices_of_an_image_cannot_be_opened(host: EngineProcess, busybox_tar: bytes) -> None:
    disk = os.stat("/").st_dev
    major, minor = (b"%07o\0" % number for number in (os.major(disk), os.minor(disk)))
    image = imported(host, busybox_tar, member(b"disk", flag=b"4", mode=b"0000666\0", major=major, minor=minor))
    try:
        ran = host.docker("run", "--rm", image, "/bin/sh", "-c", "ls -l /disk; head -c1 /disk", check=False)
        assert ran.returncode == 1 and b"brw-rw-rw-" in ran.stdout
        assert b"Operation not permitted" in ran.stderr
    finally:
        host.docker("rmi", "-f", image)


def test_no_user_of_the_host_reaches_what_images_have_and_containers_write(host: EngineProcess) -> None:
    """Setuid programs above all: CVE-2021-41091 was that of Docker."""
    for name in ("snapshots", "layers", "blobs", "staging", "volumes", "cache"):
        assert (host.data_root / name).stat().st_mode & 0o077 == 0, name


@pytest.mark.parametrize("kind", ["pipe", "device", "link"])
def test_the_engine_opens_no_pipe_and_no_device_for_a_list_of_users(
    host: EngineProcess, busybox_tar: bytes, kind: str
) -> None:
    """A pipe would wait for ever, a watchdog would restart the host; a link would show the host's users."""
    evil = {
        "pipe": member(b"etc/passwd", flag=b"6") + member(b"etc/group", flag=b"6"),
        "device": member(b"etc/passwd", flag=b"3", **WATCHDOG) + member(b"etc/group", flag=b"3", **WATCHDOG),
        "link": link(b"etc/passwd", b"/../../../../../../etc/passwd") + link(b"etc/group", b"/proc/1/root/etc/group"),
    }[kind]
    image = imported(host, busybox_tar, evil)
    try:
        ran = host.docker("run", "--rm", image, "/bin/stat", "-c", "%F", "/etc/passwd", check=False)
        assert ran.returncode == 0, ran.stderr
        refused = host.docker("run", "--rm", "-u", "daemon", image, "/bin/true", check=False)
        assert refused.returncode == 125 and b"unable to find user daemon" in refused.stderr
    finally:
        host.docker("rmi", "-f", image)


def test_a_tree_of_thousands_of_levels_made_in_a_container_goes_with_it(host: EngineProcess) -> None:
    script = "mkdir -p $(yes d | head -n 1800 | tr '\\n' /)"
    host.docker("run", "--name", "deep", "busybox", "sh", "-c", script)
    host.docker("rm", "deep")
    assert "deep" not in host.text("ps", "-a", "--format", "{{.Names}}")
