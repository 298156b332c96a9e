"""Hundreds of random steps, with kills in between and in the middle, against a model: nothing is lost, nothing leaks.

``TARE_TEST_SEED`` and ``TARE_TEST_STEPS`` choose another walk; a failure names both and the last steps.
"""

from __future__ import annotations

import copy
import http.client
import io
import json
import os
import random
import select
import signal
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from crash_points import CrashingEngine
from engine_model import ALIVE, Container, Model, Volume
from engine_process import UnixConnection, add_file
from engine_state import assert_consistent, conmons
from rebooting import reboot

pytestmark = [pytest.mark.root, pytest.mark.e2e]

SEED = int(os.environ.get("TARE_TEST_SEED", "22"))
STEPS = int(os.environ.get("TARE_TEST_STEPS", "500"))
NAMES = [f"c{number}" for number in range(7)]
VOLUMES = [f"v{number}" for number in range(6)]
LAYER_BYTES = 16 << 20
COMPARED_EVERY, WHOLE_EVERY = 10, 100
BOUND = b"a file of the host"
CUT = 0
"""The status of a request whose engine was killed."""


class Walk:
    """The engine, the model, and what has been done."""

    def __init__(self, engine: CrashingEngine, chance: random.Random) -> None:
        self.engine = engine
        self.chance = chance
        self.model = Model()
        self.done: list[str] = []
        self.tokens = 0
        self.bound = engine.root / "bound" / "file"
        self.bound.parent.mkdir()
        self.bound.write_bytes(BOUND)
        self.cut = False
        """Set while the model alone is asked what a request would have changed."""

    # --- requests ---------------------------------------------------------------------------------------------------

    def ask(self, method: str, path: str, body: object = None, /, **query: object) -> tuple[int, Any]:
        """Status and document; :data:`CUT` when the engine ends meanwhile."""
        words = "&".join(f"{name}={quote(str(value))}" for name, value in query.items())
        data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        kind = "application/x-tar" if isinstance(body, bytes) else "application/json"
        with closing(UnixConnection(self.engine.socket)) as connection:
            try:
                connection.request(method, f"{path}?{words}" if words else path, data, {"Content-Type": kind})
                answer = connection.getresponse()
                text = answer.read()
            except (ConnectionError, http.client.HTTPException):
                self.note(f"{method} {path} {words} {body if not isinstance(body, bytes) else ''} -> cut")
                return CUT, None
        self.note(f"{method} {path} {words} {body if not isinstance(body, bytes) else ''} -> {answer.status}")
        return answer.status, json.loads(text) if text.strip() else None

    def note(self, text: str) -> None:
        self.done.append(text)

    def act(
        self,
        method: str,
        path: str,
        expected: int,
        after: Callable[[Any], None],
        body: object = None,
        /,
        **query: object,
    ) -> None:
        """Change something; ``after`` does so to the model. Now and then the engine is killed meanwhile."""
        killed = self.chance.random() < 0.06
        if killed:
            self.engine.crash_at(self.chance.randint(1, 14))
        status, document = self.ask(method, path, body, **query)
        if killed and self.engine.has_crashed():
            self.note("  the engine was killed meanwhile")
            self.engine.begin_again()
            self.settle(
                after if expected < 300 else None, path.split("/")[2] if path.startswith("/containers/") else ""
            )
            return
        if status == CUT:
            raise AssertionError("the engine has ended without being killed")
        assert status == expected, (status, document)
        if expected < 300:
            after(document)

    def settle(self, after: Callable[[Any], None] | None, subject: str) -> None:
        """After a cut: each container and volume is as before or as afterwards; what it is counts from now on.

        The container ``subject`` may be half-way.
        """
        before, found = copy.deepcopy(self.model), self.observe()
        afterwards = copy.deepcopy(self.model)
        if after is not None:
            self.model, real, self.cut = afterwards, self.model, True
            after(None)
            self.model, self.cut = real, False
        for name in {*before.containers, *afterwards.containers, *found.containers}:
            one, two, seen = (side.containers.get(name) for side in (before, afterwards, found))
            allowed = {side.state if side else "" for side in (one, two)}
            if (name == subject and after is not None) or allowed != {one.state if one else ""}:
                allowed |= {"created", "exited"}
            assert (seen.state if seen else "") in allowed, (name, allowed, seen)
            if seen is not None and one is not None and two is not None:
                assert seen.mounts in (one.mounts, two.mounts), name
        for name in {*before.volumes, *afterwards.volumes}:
            first, second, there = (side.volumes.get(name) for side in (before, afterwards, found))
            if there is None:
                assert first is None or second is None, f"volume {name} is lost"
                continue
            wanted = [side.files for side in (first, second) if side is not None]
            assert there.files in wanted, (name, there.files.keys(), [side.keys() for side in wanted])
        for name, container in found.containers.items():
            known = before.containers.get(name) or afterwards.containers.get(name)
            container.brief = known.brief if known else False
        for name, volume in found.volumes.items():  # the contents of snapshots are not looked at from outside
            for snapshot in volume.snapshots:
                earlier = before.volumes.get(name, volume)
                volume.snapshots[snapshot] = dict(earlier.snapshots.get(snapshot, earlier.files))
        found.tags = self.tags()
        self.model = found

    # --- what is there ----------------------------------------------------------------------------------------------

    def observe(self) -> Model:
        """The engine's containers and volumes as it tells them, and the volumes' files as they are on disk."""
        found = Model(tags=self.model.tags)
        for one in self.get("/containers/json", all="1"):
            document = self.get(f"/containers/{one['Id']}/json")
            mounts = {item["Destination"]: item["Name"] for item in document["Mounts"] if item["Type"] == "volume"}
            found.containers[one["Names"][0][1:]] = Container(one["Id"], one["State"], mounts)
        for one in self.get("/tare/volumes"):
            volume = Volume(
                files={path.name: path.read_bytes() for path in Path(one["Mountpoint"]).iterdir()},
                anonymous="com.docker.volume.anonymous" in (one["Labels"] or {}),
                protected=one["Protected"],
            )
            for snapshot in self.get(f"/tare/volumes/{one['Name']}/snapshots"):
                volume.snapshots[snapshot["Name"]] = {}
            found.volumes[one["Name"]] = volume
        return found

    def get(self, path: str, /, **query: object) -> Any:
        status, document = self.ask("GET", path, **query)
        self.done.pop()
        assert status == 200, (path, status, document)
        return document

    def tags(self) -> set[str]:
        return {tag for image in self.get("/images/json") for tag in image["RepoTags"] if tag.startswith("prop:")}

    def compare(self) -> None:
        found = self.observe()
        expected = self.model
        assert {name: (one.state, one.mounts) for name, one in found.containers.items()} == {
            name: (one.state, one.mounts) for name, one in expected.containers.items()
        }
        assert found.volumes.keys() == expected.volumes.keys()
        for name, volume in found.volumes.items():
            known = expected.volumes[name]
            assert volume.files.keys() == known.files.keys(), name
            assert volume.files == known.files, name
            assert (volume.protected, set(volume.snapshots)) == (known.protected, set(known.snapshots)), name
        assert self.tags() == expected.tags
        directories = {path.name for path in (self.engine.data_root / "volumes").iterdir()} - {".snapshots"}
        assert directories == expected.volumes.keys()
        assert self.bound.read_bytes() == BOUND, "what a bind mount shows is not the engine's"
        self.try_removals()

    def try_removals(self) -> None:
        """What is referenced, protected or has snapshots is removed neither by force nor by a prune.

        Volumes that nothing keeps are protected meanwhile: the walk itself rarely meets such a one.
        """
        mark, everything = len(self.done), json.dumps({"all": ["true"]})
        free = self.model.unused(everything=True)
        for name in free:
            assert self.ask("POST", f"/tare/volumes/{name}/protect")[0] == 204
        for name in self.model.volumes:
            assert self.ask("DELETE", f"/volumes/{name}", force=1)[0] == 409, name
        assert not self.ask("POST", "/volumes/prune", filters=everything)[1]["VolumesDeleted"]
        for name in free:
            assert self.ask("POST", f"/tare/volumes/{name}/unprotect")[0] == 204
        del self.done[mark:]

    def compare_sizes(self) -> None:
        """``system df`` beside ``du``: layers, what containers have written, volumes with their snapshots."""
        usage = self.get("/system/df")
        told = {
            "layers": usage["LayersSize"],
            "snapshots": sum(one["SizeRw"] for one in usage["Containers"]),
            "volumes": sum(one["UsageData"]["Size"] for one in usage["Volumes"]),
        }
        real = {name: disk_usage(self.engine.data_root / name) for name in told}
        assert sum(told.values()) == pytest.approx(sum(real.values()), rel=0.01), (told, real)
        for volume in usage["Volumes"]:
            if not self.model.volumes[volume["Name"]].snapshots:
                assert volume["UsageData"]["Size"] == disk_usage(Path(volume["Mountpoint"])), volume

    # --- steps ------------------------------------------------------------------------------------------------------

    def step(self) -> None:
        steps = [name for name in dir(self) if name.startswith("do_")]
        weights = [WEIGHTS.get(name, 2) for name in steps]
        getattr(self, self.chance.choices(steps, weights)[0])()

    def token(self) -> tuple[str, bytes]:
        self.tokens += 1
        size = self.chance.choice([10, 3000, 70_000, 600_000])
        return f"f{self.tokens}", self.chance.randbytes(size)

    def mounts(self) -> dict[str, str]:
        """Volumes of a new container by place; an empty name is an anonymous one."""
        chosen = self.chance.sample(VOLUMES, self.chance.choice([0, 1, 1, 2]))
        found = {f"/v{place}": name for place, name in enumerate(chosen)}
        if self.chance.random() < 0.4:
            found["/anon"] = ""
        return found

    def request(self, mounts: dict[str, str], command: list[str], **host: object) -> dict[str, Any]:
        binds = [f"{name}:{place}" for place, name in mounts.items() if name] + [f"{self.bound.parent}:/bound"]
        anonymous = {place: {} for place, name in mounts.items() if not name}
        config = {"Image": self.chance.choice(["prop-base", *sorted(self.model.tags)]), "Cmd": command}
        return {**config, "Volumes": anonymous, "HostConfig": {"Binds": binds, "NetworkMode": "bridge", **host}}

    def do_create(self) -> None:
        name = self.chance.choice(NAMES)
        mounts, host = self.mounts(), {}
        source = self.model.one(self.chance)
        if source is not None and self.chance.random() < 0.2:
            mounts, host = {}, {"VolumesFrom": [source]}
        brief = self.chance.random() < 0.2
        body = self.request(mounts, ["true"] if brief else ["sleep", "100000"], **host)

        def after(document: Any) -> None:
            for volume in filter(None, mounts.values()):
                self.model.volumes.setdefault(volume, Volume())
            made = Container("", brief=brief)
            if document is not None:
                made.mounts, made.identifier = self.mounted(name), document["Id"]
                for place, volume in made.mounts.items():
                    if mounts.get(place) == "":
                        self.model.volumes[volume] = Volume(anonymous=True)
            elif host:
                made.mounts = dict(self.model.containers[source or ""].mounts)
            else:
                made.mounts = {place: volume for place, volume in mounts.items() if volume}
            self.model.containers[name] = made

        self.act("POST", "/containers/create", 409 if name in self.model.containers else 201, after, body, name=name)

    def mounted(self, name: str) -> dict[str, str]:
        document = self.get(f"/containers/{name}/json")
        return {item["Destination"]: item["Name"] for item in document["Mounts"] if item["Type"] == "volume"}

    def set_state(self, name: str, state: str) -> Callable[[Any], None]:
        def after(_: Any) -> None:
            container = self.model.containers[name]
            container.state = state
            if state == "running" and container.brief:
                container.state = "exited"
                if not self.cut:
                    self.ask("POST", f"/containers/{name}/wait")

        return after

    def do_start(self) -> None:
        if (name := self.model.one(self.chance)) is not None:
            known = {"running": 304, "paused": 409}
            status = known.get(self.model.containers[name].state, 204)
            self.act("POST", f"/containers/{name}/start", status, self.set_state(name, "running"))

    def do_stop(self) -> None:
        if (name := self.model.one(self.chance)) is not None:
            status = 204 if self.model.containers[name].state in ALIVE else 304
            self.act("POST", f"/containers/{name}/stop", status, self.set_state(name, "exited"), t=0)

    def do_restart(self) -> None:
        if (name := self.model.one(self.chance, ["running", "exited", "created"])) is not None:
            self.act("POST", f"/containers/{name}/restart", 204, self.set_state(name, "running"), t=0)

    def do_kill(self) -> None:
        if (name := self.model.one(self.chance)) is not None:
            alive = self.model.containers[name].state in ALIVE

            def after(_: Any) -> None:
                self.model.containers[name].state = "exited"
                if not self.cut:
                    self.ask("POST", f"/containers/{name}/wait")

            self.act("POST", f"/containers/{name}/kill", 204 if alive else 409, after)

    def do_pause(self) -> None:
        if (name := self.model.one(self.chance)) is not None:
            status = 204 if self.model.containers[name].state == "running" else 409
            self.act("POST", f"/containers/{name}/pause", status, self.set_state(name, "paused"))

    def do_unpause(self) -> None:
        if (name := self.model.one(self.chance, ["paused"])) is not None:
            self.act("POST", f"/containers/{name}/unpause", 204, self.set_state(name, "running"))

    def do_rename(self) -> None:
        if (name := self.model.one(self.chance)) is not None:
            new = self.chance.choice(NAMES)

            def after(_: Any) -> None:
                self.model.containers[new] = self.model.containers.pop(name)

            taken = new in self.model.containers
            self.act(
                "POST",
                f"/containers/{name}/rename",
                409 if taken and new != name else 400 if taken else 204,
                after,
                name=new,
            )

    def do_remove(self) -> None:
        if (name := self.model.one(self.chance)) is None:
            assert self.ask("DELETE", "/containers/nobody")[0] == 404
            return
        force, volumes = self.chance.random() < 0.5, self.chance.random() < 0.5
        status = 409 if self.model.containers[name].state in ALIVE and not force else 204
        self.act(
            "DELETE", f"/containers/{name}", status,
            lambda _: self.model.forget_container(name, volumes=volumes), force=int(force), v=int(volumes),
        )  # fmt: skip

    def do_run_and_remove(self) -> None:
        """``run --rm``: the container writes into its volumes and is gone, with those that have no name."""
        name, mounts = "brief", self.mounts()
        file, data = self.token()
        word = data[:8].hex()
        script = "; ".join(f"echo {word} > {place}/{file}" for place in mounts) or "true"
        body = self.request(mounts, ["sh", "-c", script], AutoRemove=True)
        status, document = self.ask("POST", "/containers/create", body, name=name)
        assert status == 201, document
        with closing(UnixConnection(self.engine.socket)) as waiting:
            waiting.request("POST", f"/containers/{name}/wait?condition=removed")
            assert self.ask("POST", f"/containers/{name}/start")[0] == 204
            answer = waiting.getresponse()
            assert (answer.status, json.loads(answer.read())["StatusCode"]) == (200, 0)
        for volume in filter(None, mounts.values()):
            self.model.volumes.setdefault(volume, Volume()).files[file] = f"{word}\n".encode()

    def do_write(self) -> None:
        """A file into a volume, through a container that has it."""
        name = self.model.one(self.chance)
        if name is None or not self.model.containers[name].mounts:
            return
        place, volume = self.chance.choice(sorted(self.model.containers[name].mounts.items()))
        file, data = self.token()
        status, document = self.ask("PUT", f"/containers/{name}/archive", tar_of(file, data), path=place)
        assert status == 200, document
        self.model.volumes[volume].files[file] = data

    def do_write_layer(self) -> None:
        if (name := self.model.one(self.chance)) is not None:
            file, data = self.token()
            assert self.ask("PUT", f"/containers/{name}/archive", tar_of(file, data), path="/tmp")[0] == 200

    def do_prune_containers(self) -> None:
        def after(_: Any) -> None:
            for name in [name for name, one in self.model.containers.items() if one.state not in ALIVE]:
                self.model.forget_container(name, volumes=False)

        self.act("POST", "/containers/prune", 200, after)

    def do_volume_create(self) -> None:
        name = self.chance.choice(VOLUMES)
        self.act(
            "POST", "/volumes/create", 201, lambda _: self.model.volumes.setdefault(name, Volume()), {"Name": name}
        )

    def do_volume_remove(self) -> None:
        name = self.chance.choice(VOLUMES + sorted(self.model.volumes))
        force = self.chance.random() < 0.3
        known = self.model.volumes.get(name)
        status = 204
        if known is None:
            status = 204 if force else 404
        elif self.model.is_used(name) or not known.removable:
            status = 409
        self.act("DELETE", f"/volumes/{name}", status, lambda _: self.model.volumes.pop(name, None), force=int(force))

    def do_volume_prune(self) -> None:
        everything = self.chance.random() < 0.4

        def after(_: Any) -> None:
            for name in self.model.unused(everything=everything):
                del self.model.volumes[name]

        filters = {"filters": json.dumps({"all": ["true"]})} if everything else {}
        self.act("POST", "/volumes/prune", 200, after, **filters)

    def some_volume(self) -> str | None:
        return self.chance.choice(sorted(self.model.volumes)) if self.model.volumes else None

    def do_protect(self) -> None:
        if (name := self.some_volume()) is not None:
            protect = self.chance.random() < 0.4

            def after(_: Any) -> None:
                self.model.volumes[name].protected = protect

            self.act("POST", f"/tare/volumes/{name}/{'protect' if protect else 'unprotect'}", 204, after)

    def do_snapshot(self) -> None:
        if (name := self.some_volume()) is not None:
            snapshot = self.chance.choice(["s0", "s1"])
            volume = self.model.volumes[name]

            def after(_: Any) -> None:
                volume = self.model.volumes[name]
                volume.snapshots[snapshot] = dict(volume.files)

            taken = snapshot in volume.snapshots
            self.act("POST", f"/tare/volumes/{name}/snapshots", 409 if taken else 201, after, {"Name": snapshot})

    def do_snapshot_remove(self) -> None:
        names = [name for name, volume in self.model.volumes.items() if volume.snapshots]
        if names:
            name = self.chance.choice(sorted(names))
            snapshot = self.chance.choice(sorted(self.model.volumes[name].snapshots))

            def after(_: Any) -> None:
                self.model.volumes[name].snapshots.pop(snapshot, None)

            self.act("DELETE", f"/tare/volumes/{name}/snapshots/{snapshot}", 204, after)

    def do_restore(self) -> None:
        names = [name for name, volume in self.model.volumes.items() if volume.snapshots]
        if not names:
            return
        name = self.chance.choice(sorted(names))
        snapshot = self.chance.choice(sorted(self.model.volumes[name].snapshots))

        def after(document: Any) -> None:
            volume = self.model.volumes[name]
            held = volume.files
            volume.files = dict(volume.snapshots[snapshot])
            if document is not None:
                volume.snapshots[document["Name"]] = held

        status = 409 if self.model.is_written(name) else 200
        self.act("POST", f"/tare/volumes/{name}/restore", status, after, {"Snapshot": snapshot})

    def do_clone(self) -> None:
        if (name := self.some_volume()) is not None:
            new = self.chance.choice(VOLUMES)

            def after(_: Any) -> None:
                self.model.volumes[new] = Volume(files=dict(self.model.volumes[name].files))

            status = 409 if new in self.model.volumes else 201
            self.act("POST", f"/tare/volumes/{name}/clone", status, after, {"Name": new})

    def do_tag(self) -> None:
        tag = self.chance.choice(["a", "b", "c"])
        self.act(
            "POST", "/images/prop-base/tag", 201, lambda _: self.model.tags.add(f"prop:{tag}"), repo="prop", tag=tag
        )

    def do_untag(self) -> None:
        tag = f"prop:{self.chance.choice(['a', 'b', 'c'])}"
        status = 200 if tag in self.model.tags else 404
        self.act("DELETE", f"/images/{tag}", status, lambda _: self.model.tags.discard(tag))

    def do_prune_images(self) -> None:
        self.act("POST", "/images/prune", 200, lambda _: None)

    # --- kills ------------------------------------------------------------------------------------------------------

    def do_kill_process(self) -> None:
        """The container's process by SIGKILL, from outside."""
        if (name := self.model.one(self.chance, ["running"])) is not None:
            pid = self.get(f"/containers/{name}/json")["State"]["Pid"]
            self.note(f"kill -9 the process of {name}")
            os.kill(pid, signal.SIGKILL)
            assert self.ask("POST", f"/containers/{name}/wait")[1] == {"StatusCode": 137}
            self.model.containers[name].state = "exited"

    def do_kill_supervisor(self) -> None:
        """The container's conmon by SIGKILL: the container cannot go on."""
        if (name := self.model.one(self.chance, ["running"])) is not None:
            identifier = self.get(f"/containers/{name}/json")["Id"]
            (supervisor,) = [item for item in conmons(self.engine) if identifier in item.detail]
            self.note(f"kill -9 the supervisor of {name}")
            os.kill(int(supervisor.name), signal.SIGKILL)
            assert self.ask("POST", f"/containers/{name}/wait")[1]["StatusCode"] == 137
            self.model.containers[name].state = "exited"

    def do_kill_engine(self) -> None:
        """tared by SIGKILL; sometimes a container ends while it is away."""
        self.note("kill -9 the engine")
        name = self.model.one(self.chance, ["running"])
        pid = self.get(f"/containers/{name}/json")["State"]["Pid"] if name else 0
        self.engine.kill()
        if name and self.chance.random() < 0.5:
            self.note(f"  and the process of {name} while it is away")
            descriptor = os.pidfd_open(pid)
            os.kill(pid, signal.SIGKILL)
            select.select([descriptor], [], [], 30)
            os.close(descriptor)
            self.model.containers[name].state = "exited"
        self.engine.start()

    def do_reboot(self) -> None:
        self.note("reboot")
        reboot(self.engine)
        for container in self.model.containers.values():
            if container.state in ALIVE:
                container.state = "exited"


WEIGHTS = {
    "do_create": 12, "do_start": 10, "do_write": 10, "do_run_and_remove": 5, "do_remove": 6, "do_stop": 4,
    "do_volume_remove": 4, "do_snapshot": 3, "do_restore": 3,
    "do_prune_containers": 1, "do_prune_images": 1, "do_tag": 1,
    "do_untag": 1, "do_kill_engine": 1, "do_reboot": 0.4,
}  # fmt: skip


def tar_of(name: str, data: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        add_file(archive, name, data)
    return buffer.getvalue()


def disk_usage(directory: Path) -> int:
    """Bytes as du(1) counts them."""
    told = subprocess.run(["du", "--summarize", "--block-size=1", directory], check=True, capture_output=True).stdout
    return int(told.split()[0])


@pytest.fixture
def own(busybox_tar: bytes) -> Iterator[CrashingEngine]:
    engine = CrashingEngine.make()
    assert isinstance(engine, CrashingEngine)
    buffer = io.BytesIO(busybox_tar)
    with tarfile.open(fileobj=buffer, mode="a") as archive:
        add_file(archive, "big", random.Random(1).randbytes(LAYER_BYTES))
    engine.docker("import", "-c", "ENV PATH=/bin", "-", "prop-base:latest", stdin=buffer.getvalue())
    yield engine
    engine.plan.unlink(missing_ok=True)
    if engine.process is not None and engine.process.poll() is not None:
        engine.begin_again()
    engine.remove_containers()
    engine.stop()


@pytest.mark.timeout(max(120, STEPS))
def test_random_steps(own: CrashingEngine) -> None:
    walk = Walk(own, random.Random(SEED))
    try:
        for number in range(1, STEPS + 1):
            walk.note(f"step {number}")
            walk.step()
            if number % COMPARED_EVERY == 0:
                walk.compare()
            if number % WHOLE_EVERY == 0:
                assert_consistent(own)
                walk.compare_sizes()
        walk.compare()
    except BaseException:
        print(f"TARE_TEST_SEED={SEED} TARE_TEST_STEPS={STEPS}; the last steps:\n  " + "\n  ".join(walk.done[-40:]))
        print(own.log[-3000:])
        raise
