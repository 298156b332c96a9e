"""What maintainer scripts do on a real Debian: ``python record_effects.py CACHE`` writes ``effects_on_debian.json``.

``tare.local/debian`` is assembled, apt-get installs the packages in it, and what is there afterwards that no package
contains, or that belongs to another user, is recorded, with users, groups and the loader's cache. Needs root and the
archive.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import tempfile
from pathlib import Path

from distroless_executor import RuncExecutor, run_in

from tare.distroless.catalogue import DebianCatalogue
from tare.distroless.settings import ArchiveSettings
from tare.model import Platform, Reference
from tare.store.store import Store

RECORD = Path(__file__).with_name("effects_on_debian.json")
PACKAGES = (
    "nginx-light", "redis-server", "memcached", "haproxy", "dnsmasq-base", "unbound", "tor", "mosquitto",
    "openssh-client", "libatlas3-base", "vim-tiny", "nano", "netcat-openbsd", "php8.2-curl", "php8.2-fpm",
    "dbus-daemon", "mariadb-common", "sudo", "fakeroot",
)  # fmt: skip
_LIST = r"find / -xdev -path /proc -prune -o -path /dev -prune -o -printf '%y %m %u %g %p\t%l\n' | sort"
_SCRIPT = f"""set -e
{_LIST} > /root/before
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends {" ".join(PACKAGES)} > /root/log 2>&1
{_LIST} > /root/after
echo "== new"; comm -13 /root/before /root/after
echo "== owned"; sed 's,^/\\(bin\\|sbin\\|lib\\|lib64\\)/,/usr/\\1/,' /var/lib/dpkg/info/*.list | sort -u
echo "== passwd"; cat /etc/passwd
echo "== group"; cat /etc/group
echo "== libraries"; ldconfig -p
"""
_OF_TOOLS = re.compile(
    "(root|var/(lib/(dpkg|apt|ucf|systemd|php/modules|pam)|cache/(apt|debconf)|log/apt)|etc/(ssl/certs|systemd|rc.[.]d))/"
)
"""Notes of package managers and of the init system, which images have neither of."""
_MEMBER = re.compile(r"(\S) (\d+) (\S+) (\S+) ([^\t]*)\t(.*)")


async def on_debian(cache: Path) -> str:
    with tempfile.TemporaryDirectory(prefix="record-effects-") as name:
        store = await Store.open(Path(name, "data"))
        try:
            catalogue = DebianCatalogue(store, RuncExecutor(store), ArchiveSettings(), cache)
            reference = Reference.parse("tare.local/debian:12")
            image = await store.images.get(await catalogue.assemble(reference, Platform.host(), lambda *_: None))
            lowers = [await store.snapshots.ensure_layer(diff_id) for diff_id in image.diff_ids]
            await store.snapshots.prepare("record", lowers)
            root = Path(name, "root")
            root.mkdir()
            await store.snapshots.mount("record", root)
            try:
                (root / "etc/resolv.conf").touch()
                env = image.config.config.env or ()
                status, output = await run_in(root, ("/bin/sh", "-c", _SCRIPT), env=env, host_network=True)
                assert status == 0, output.decode()
                return output.decode()
            finally:
                await store.snapshots.unmount(root)
                await store.snapshots.remove("record")
        finally:
            await store.close()


def record(output: str) -> dict[str, object]:
    parts = {text.partition("\n")[0]: text.partition("\n")[2].splitlines() for text in output.split("== ")[1:]}
    owned = set(parts["owned"])
    members = {}
    for line in parts["new"]:
        match = _MEMBER.fullmatch(line)
        if match is None or _OF_TOOLS.match(match[5].lstrip("/")):
            continue
        if match[5] not in owned or (match[3], match[4]) != ("root", "root"):
            members[match[5].lstrip("/")] = [match[1], match[2], match[3], match[4], match[6]]
    groups = {line.split(":")[2]: line.split(":")[0] for line in parts["group"]}
    users = {}
    for line in parts["passwd"]:
        name, _, number, group, comment, home, _ = line.split(":")
        if 100 <= int(number) < 1000:
            users[name] = [groups[group], comment.rstrip(","), home]
    libraries = [line.strip() for line in parts["libraries"] if "=>" in line]
    return {"members": members, "users": users, "libraries": libraries}


if __name__ == "__main__":
    recorded = record(asyncio.run(on_debian(Path(sys.argv[1]))))
    text = json.dumps(recorded, indent=1, sort_keys=True)
    RECORD.write_text(re.sub(r"\n {3,}| *\n  (?=\])", " ", text) + "\n")  # one line for each member
