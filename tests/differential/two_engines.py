"""Two engines that have nothing in common, and what they assemble."""

from __future__ import annotations

import http
import http.client
import json
import tempfile
import urllib.parse
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from engine_process import EngineProcess, UnixConnection

REQUEST_SECONDS = 600
SURROUNDINGS = (
    "umask 022; export TZ=UTC LC_ALL=C.UTF-8",
    "umask 077; cd /; export TZ=Pacific/Kiritimati LC_ALL=C LANG=C HOME=/nonexistent PYTHONHASHSEED=7",
)
"""Shell commands before the start of each engine."""


@dataclass
class Surrounded(EngineProcess):
    """An engine that is started by a shell after ``surrounding``."""

    surrounding: str = ""

    def command(self) -> list[str]:
        """How the engine is started; the shell becomes the engine."""
        return ["/bin/sh", "-c", f'unset SOURCE_DATE_EPOCH; {self.surrounding}; exec "$@"', "sh", *super().command()]


@contextmanager
def two_engines() -> Iterator[tuple[EngineProcess, EngineProcess]]:
    """Two engines until the block ends: data, caches of packages, time zone, language, umask and directories differ."""
    with ExitStack() as stack:
        started = []
        for surrounding in SURROUNDINGS:
            engine = Surrounded(Path(tempfile.mkdtemp(prefix="tare-t")), surrounding=surrounding)
            engine.start()
            stack.callback(engine.stop)
            started.append(engine)
        yield started[0], started[1]


def assembled(engine: EngineProcess, name: str) -> str:
    """The id of the image ``name``, which the engine assembles."""
    repository, _, tag = name.rpartition(":")
    query = urllib.parse.urlencode({"fromImage": repository, "tag": tag})
    connection = UnixConnection(engine.socket, seconds=REQUEST_SECONDS)
    try:
        connection.request("POST", f"/images/create?{query}")
        answer = connection.getresponse()
        lines = [json.loads(line) for line in answer.read().splitlines()]
        errors = [line["error"] for line in lines if "error" in line]
        if answer.status != http.HTTPStatus.OK or errors:
            raise RuntimeError(f"{name}: {errors or lines}")
        connection.request("GET", f"/images/{urllib.parse.quote(name)}/json")
        return str(json.loads(connection.getresponse().read())["Id"])
    finally:
        connection.close()


def digests(engines: Sequence[EngineProcess], names: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Each name with what the engines made of it, all working at the same time, in opposite orders."""
    with ThreadPoolExecutor(len(engines)) as pool:
        orders = [names, names[::-1]]
        made = [
            pool.submit(lambda engine, order: {name: assembled(engine, name) for name in order}, engine, order)
            for engine, order in zip(engines, orders, strict=True)
        ]
        results = [future.result() for future in made]
    for name in names:
        yield name, [result[name] for result in results]
