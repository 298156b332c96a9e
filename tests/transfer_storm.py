"""Pulls and pushes during which the engine, the registry or the network ends at a random moment.

::

    python tests/transfer_storm.py [ROUNDS [SEED]]      # as root

After each blow the store is looked at from outside (rows, files, digests, what the collector would find) and by ``tare
fsck``, the transfer is done again, and must succeed without fetching or sending again what was complete.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import http.client
import json
import random
import shutil
import sqlite3
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import parse_qs, urlsplit

from engine_process import EngineProcess, UnixConnection
from faulty_registry import OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, layer_tar, sha256
from registry_server import RegistryServer
from relayed_network import Wire
from tare.store import gc

Victim = Literal["engine", "registry", "network", "link"]
Kind = Literal["pull", "push"]

REPOSITORY = "storm/app"
LAYERS = (900_000, 2_500_000, 300_000, 1_500_000, 40_000, 700_000)


@dataclass
class Storm:
    """One engine, a registry to pull from and one to push to, each behind a network of its own."""

    engine: EngineProcess
    source: RegistryServer
    target: RegistryServer
    source_wire: Wire
    target_wire: Wire
    chance: random.Random
    image: str = ""
    digest: str = ""
    last: list[object] = field(default_factory=list)
    blows: Counter[str] = field(default_factory=Counter)

    def prepare(self) -> None:
        """Put an image of several layers into the registry that is pulled from."""
        layers = [layer_tar(f"file{size}", self.chance.randbytes(size)) for size in LAYERS]
        packed = [gzip.compress(layer, 1, mtime=0) for layer in layers]
        rootfs = {"type": "layers", "diff_ids": [sha256(layer) for layer in layers]}
        config = json.dumps({"architecture": "amd64", "os": "linux", "config": {}, "rootfs": rootfs}).encode()
        for blob in (config, *packed):
            self.source.put_blob(REPOSITORY, blob)
        manifest = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": {"mediaType": OCI_CONFIG, "size": len(config), "digest": sha256(config)},
            "layers": [{"mediaType": OCI_LAYER, "size": len(one), "digest": sha256(one)} for one in packed],
        }
        data = json.dumps(manifest).encode()
        self.source.put_manifest(REPOSITORY, "1", OCI_MANIFEST, data)
        self.image, self.digest = sha256(config), sha256(data)

    def round(self, kind: Kind, victim: Victim) -> None:
        """One transfer with a blow to ``victim``, and the same again."""
        server, wire = (self.source, self.source_wire) if kind == "pull" else (self.target, self.target_wire)
        name = f"{wire.address}/{REPOSITORY}"
        path = f"/images/create?fromImage={name}&tag=1" if kind == "pull" else f"/images/{name}/push?tag=1"
        if kind == "push":
            assert self._transfer(f"/images/create?fromImage={self.source_wire.address}/{REPOSITORY}&tag=1")
            self.engine.docker("tag", f"{self.source_wire.address}/{REPOSITORY}:1", f"{name}:1")
        begun = len(server.requests())
        finished: set[str] = set()
        wire.strike_after(self.chance.randrange(2000, sum(LAYERS)), lambda: self._strike(victim, server, wire))
        with ThreadPoolExecutor(1) as threads:
            done = threads.submit(self._transfer, path).result()
        struck = not wire.spare()
        self.blows[f"{kind} {victim} {'' if struck else 'not '}struck, {'done' if done else 'failed'}"] += 1
        if victim == "engine" and struck:
            finished = self._complete_downloads()
            self.engine.kill()  # which collects what is left of the process
            self.engine.start()
        self._check_store()
        middle = len(server.requests())
        if not done:
            finished = finished or self._complete_downloads()
            assert not self._has(f"{name}:1") or kind == "push"
            assert self._transfer(path), self.last
        again = [line for line in server.requests()[middle:] if line.startswith("GET ")]
        assert not [line for line in again if any(digest in line for digest in finished)], (finished, again)
        self._check_result(kind, name, server, begun)
        ids = set(self.engine.text("images", "-aq", "--no-trunc").split())
        self.engine.docker("rmi", "-f", *ids)
        self._check_store()
        if kind == "push":
            server.stop()
            shutil.rmtree(server.content)
            server.start()

    def _strike(self, victim: Victim, server: RegistryServer, wire: Wire) -> None:
        if victim == "engine":
            assert self.engine.process is not None
            self.engine.process.kill()
        elif victim == "network":
            wire.cut()
        elif victim == "link":
            wire.unplug()
        else:
            server.kill()
            server.start()

    def _transfer(self, path: str) -> bool:
        """Whether it went well; an answer that ends early is a failure."""
        connection = UnixConnection(self.engine.socket)
        try:
            connection.request("POST", f"/v1.51{path}", headers={"X-Registry-Auth": "e30="})
            answer = connection.getresponse()
            messages = [json.loads(line) for line in answer.read().splitlines() if line]
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.last = [repr(error)]
            return False
        finally:
            connection.close()
        self.last = messages[-3:]
        return answer.status == 200 and not any("error" in message for message in messages)

    def _check_store(self) -> None:
        """What is looked at from outside, and what ``tare fsck`` says."""
        check_store(self.engine)
        connection = UnixConnection(self.engine.socket)
        try:
            connection.request("POST", "/tare/fsck", b'{"deep": true}', {"Content-Type": "application/json"})
            events = [json.loads(line) for line in connection.getresponse().read().splitlines() if line]
        finally:
            connection.close()
        assert events[-1]["clean"], events

    def _complete_downloads(self) -> set[str]:
        place = self.engine.data_root / "cache/downloads"
        return {path.name for path in place.iterdir() if not path.suffix} if place.is_dir() else set()

    def _has(self, name: str) -> bool:
        return self.engine.docker("inspect", name, check=False).returncode == 0

    def _check_result(self, kind: Kind, name: str, server: RegistryServer, begun: int) -> None:
        found = json.loads(self.engine.text("image", "inspect", f"{name}:1"))[0]
        assert found["Id"] == self.image
        digests = {text.partition("@")[2] for text in found["RepoDigests"] if text.startswith(f"{name}@")}
        assert not self._complete_downloads()
        if kind == "pull":
            assert digests == {self.digest}
            return
        with server.asked("GET", f"/v2/{REPOSITORY}/manifests/1", headers={"Accept": OCI_MANIFEST}) as answer:
            manifest = answer.read()
        assert digests == {sha256(manifest)}
        for blob in (json.loads(manifest)["config"], *json.loads(manifest)["layers"]):
            with server.asked("GET", f"/v2/{REPOSITORY}/blobs/{blob['digest']}") as answer:
                assert sha256(answer.read()) == blob["digest"]
        sent: dict[str, set[str]] = {}
        for line in server.requests()[begun:]:
            method, uri, status = line.split()
            if (method, status) == ("PUT", "201") and "/blobs/uploads/" in uri:
                address = urlsplit(uri)  # an upload may be ended twice, when the first answer was lost
                (digest,) = parse_qs(address.query)["digest"]
                sent.setdefault(digest, set()).add(address.path)
        assert all(len(uploads) == 1 for uploads in sent.values()), sent


def check_store(engine: EngineProcess) -> None:
    """Rows and files agree, every digest is right, and the collector would find nothing."""
    with contextlib.closing(sqlite3.connect(f"file:{engine.data_root}/tare.db?mode=ro", uri=True)) as database:
        assert gc.plan(database) == set()
        assert database.execute("PRAGMA foreign_key_check").fetchall() == []
        assert database.execute("SELECT count(*) FROM leases").fetchone() == (0,)
        blobs = {row[0] for row in database.execute("SELECT digest FROM blobs")}
        layers = {row[0] for row in database.execute("SELECT diff_id FROM layers")}
    for place, names, suffix in (("blobs/sha256", blobs, ""), ("layers", layers, ".tar")):
        files = {path.name.removesuffix(suffix): path for path in (engine.data_root / place).iterdir()}
        assert {f"sha256:{name}" for name in files} == names
        for name, path in files.items():
            assert hashlib.sha256(path.read_bytes()).hexdigest() == name
    assert list((engine.data_root / "staging").iterdir()) == []


@contextlib.contextmanager
def storm(seed: int) -> Iterator[Storm]:
    """A storm around an engine of its own."""
    with contextlib.ExitStack() as stack:
        source, target = (stack.enter_context(RegistryServer()) for _ in range(2))
        wires = [stack.enter_context(Wire(server.port)) for server in (source, target)]
        config = source.directory / "tare.toml"
        config.write_text("".join(f'[registries."{wire.address}"]\ninsecure = true\n' for wire in wires))
        engine = EngineProcess.make("--config", str(config))
        stack.callback(engine.stop)
        made = Storm(engine, source, target, *wires, chance=random.Random(seed))
        made.prepare()
        yield made


def main(rounds: int, seed: int) -> None:
    """As many rounds as asked for, by chance."""
    with storm(seed) as made:
        for number in range(rounds):
            kind, victim = made.chance.choice(KINDS), made.chance.choice(VICTIMS)
            print(f"{number + 1}/{rounds}: {kind}, {victim}", flush=True)
            made.round(kind, victim)
    for line, count in sorted(made.blows.items()):
        print(f"{count:4} {line}")


KINDS: tuple[Kind, ...] = ("pull", "push")
VICTIMS: tuple[Victim, ...] = ("engine", "registry", "network", "link")

if __name__ == "__main__":
    main(*(int(text) for text in (sys.argv[1:] + ["100", "7"][len(sys.argv) - 1 :])))
