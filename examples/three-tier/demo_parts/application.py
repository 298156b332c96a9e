"""Run the three tiers and the payment service, talk to them, and take them away again."""

from __future__ import annotations

import json
import os
import secrets
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from rich.table import Table

from demo_parts.command import CommandError, CommandLine, DemoError
from demo_parts.images import PREFIX, TIERS, image
from demo_parts.reach import Observation, Place, observe
from demo_parts.view import View

NETWORK = PREFIX
PAYMENT_NETWORK = f"{PREFIX}-payment"
VOLUME = f"{PREFIX}-data"
CONTAINERS = (*TIERS, "payment")
PORTS = {"frontend": 8080, "backend": 8080, "database": 3306, "payment": 9000}
DATABASE_UID = 999
OUTSIDE = "tmp/outside-the-volume"
ANSWER_SECONDS = 60
PAUSE = 0.1

Result = TypeVar("Result")


class Application:
    """The containers, networks and the volume of the demo, on one engine."""

    def __init__(self, command: CommandLine, view: View, run_root: Path, port: int) -> None:
        self._command = command
        self._view = view
        self._start_file = run_root / "start.sql"
        self._password = secrets.token_urlsafe(24)
        self.url = f"http://127.0.0.1:{port}"
        self._port = port

    def start(self) -> None:
        """Create networks and volume, run the three tiers, wait until the page and the notes answer."""
        self._write_start_file()
        self._command.run("network", "create", NETWORK)
        self._command.run("volume", "create", VOLUME)
        self._run_database()
        self._run("backend", "--network", NETWORK, *self._backend_environment(), env={"DB_PASSWORD": self._password})
        self._run("frontend", "--network", NETWORK, "-p", f"127.0.0.1:{self._port}:{PORTS['frontend']}")
        self._wait("page", self._page, TIERS)
        self._wait("notes", self._notes, TIERS)

    def show_page(self) -> None:
        """Say what the published port serves."""
        page = self._page()
        self._view.say(f"  GET  {self.url}/ → {len(page)} bytes of HTML")

    def post_note(self) -> int:
        """Store a note over HTTP, read it back, and return its number."""
        text = "Written by the demo: “quotes”, <tags> and 雪 survive."
        note = self._request("/api/notes", {"text": text})
        self._view.say(f"  POST {self.url}/api/notes → note {note['id']}")
        self._require_note(note["id"], text)
        self._view.say(f"  GET  {self.url}/api/notes → note {note['id']}: {text}")
        return int(note["id"])

    def replace_database(self, note: int) -> None:
        """Remove the database container and run a new one: the volume's content stays, the container's goes."""
        outside = self._root_of("database") / OUTSIDE
        outside.write_text("in the container's own file system\n")
        old = self._command.inspect("container", "database")["Id"]
        self._command.run("rm", "-f", "database")
        self._run_database()
        new = self._command.inspect("container", "database")["Id"]
        self._wait("notes again", self._notes, TIERS)
        if not any(entry["id"] == note for entry in self._notes()):
            raise DemoError(f"note {note} is gone although volume {VOLUME} holds the database")
        if (self._root_of("database") / OUTSIDE).exists():
            raise DemoError(f"/{OUTSIDE} is still there in a new container")
        self._view.say(f"  database {old[:12]} removed, {new[:12]} created on the same volume")
        self._view.say(f"  note {note} (in volume {VOLUME}): still there")
        self._view.say(f"  /{OUTSIDE} (in the container): gone")

    def isolate_payment(self) -> None:
        """Run a service on a network of its own and prove that the two networks do not reach each other."""
        self._command.run("network", "create", PAYMENT_NETWORK)
        self._run("payment", "--network", PAYMENT_NETWORK)
        places = [self._place(name) for name in CONTAINERS]
        payment = places[-1]
        self._wait("payment", lambda: self._require_reachable(payment), ("payment",))
        with ThreadPoolExecutor(max_workers=len(places)) as pool:
            seen = dict(zip(CONTAINERS, pool.map(lambda place: observe(place, places), places), strict=True))
        self._view.console.print(_matrix(seen))
        wrong = _surprises(seen)
        if wrong:
            raise DemoError("isolation is not what it should be: " + "; ".join(wrong))
        self._view.say("  each network reaches itself only, by address and by name")

    def remove(self) -> None:
        """Remove all that the demo made on the engine, also what is left of a run that was cut off."""
        existing = self._command.run("ps", "-a", "--format", "{{.Names}}", check=False).split()
        for name in CONTAINERS:
            if name in existing:
                self._command.run("rm", "-f", name)
        for kind, names in (("network", (NETWORK, PAYMENT_NETWORK)), ("volume", (VOLUME,))):
            for name in names:
                if self._exists(kind, name):
                    self._command.run(kind, "rm", name)
        self._start_file.unlink(missing_ok=True)

    def logs(self) -> str:
        """The last lines of every container that exists, for an error report."""
        parts = []
        for name in CONTAINERS:
            with suppress(CommandError):
                parts.append(f"--- {name}\n{self._command.run('logs', '--tail', '15', name).rstrip()}")
        return "\n".join(parts)

    def _exists(self, kind: str, name: str) -> bool:
        try:
            self._command.run(kind, "inspect", name)
        except CommandError:
            return False
        return True

    def _write_start_file(self) -> None:
        """The password reaches the database in a file that only its user can read: it is in no image and no list."""
        self._start_file.unlink(missing_ok=True)
        with os.fdopen(os.open(self._start_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400), "w") as file:
            file.write(f"ALTER USER 'notes'@'%' IDENTIFIED BY '{self._password}' ACCOUNT UNLOCK;\n")
        os.chown(self._start_file, DATABASE_UID, DATABASE_UID)

    def _run_database(self) -> None:
        volumes = ("-v", f"{VOLUME}:/var/lib/mysql", "-v", f"{self._start_file}:/run/start.sql:ro")
        self._run("database", "--network", NETWORK, *volumes, command=("--init-file=/run/start.sql",))

    def _backend_environment(self) -> tuple[str, ...]:
        return ("-e", "DB_HOST=database", "-e", "DB_NAME=notes", "-e", "DB_USER=notes", "-e", "DB_PASSWORD")

    def _run(self, name: str, *options: str, command: tuple[str, ...] = (), env: dict[str, str] | None = None) -> None:
        with self._view.job(f"run {name}") as job:
            arguments = ("run", "-d", "--name", name, *options, image(name), *command)
            self._command.run(*arguments, on_line=job.line, env=env)

    def _wait(self, what: str, attempt: Callable[[], Result], containers: tuple[str, ...]) -> Result:
        """Try until it works; fails at once when a container has ended, else after the time-out."""
        deadline = time.monotonic() + ANSWER_SECONDS
        with self._view.job(f"wait for {what}") as job:
            while True:
                try:
                    return attempt()
                except (OSError, ValueError) as error:
                    job.line(str(error))
                    last = error
                self._require_running(containers)
                if time.monotonic() > deadline:
                    raise DemoError(f"no {what} within {ANSWER_SECONDS} s: {last}")
                time.sleep(PAUSE)

    def _require_running(self, names: tuple[str, ...]) -> None:
        for name in names:
            state = self._command.inspect("container", name)["State"]
            if not state["Running"]:
                raise DemoError(f"container {name} ended with status {state['ExitCode']}; its log says why")

    def _request(self, path: str, body: dict[str, str] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=5) as response:
            return json.load(response)

    def _notes(self) -> list[dict[str, Any]]:
        notes: list[dict[str, Any]] = self._request("/api/notes")
        return notes

    def _page(self) -> bytes:
        with urllib.request.urlopen(self.url, timeout=5) as response:
            page: bytes = response.read()
        if b'<div id="root">' not in page:
            raise ValueError("the answer is not the page")
        return page

    def _require_note(self, number: int, text: str) -> None:
        if not any(note["id"] == number and note["text"] == text for note in self._notes()):
            raise DemoError(f"note {number} was accepted but is not in the list, or has another text")

    def _root_of(self, name: str) -> Path:
        """A container's file system as seen from the host: its image may have no program that writes a file."""
        return Path(f"/proc/{self._command.inspect('container', name)['State']['Pid']}/root")

    def _place(self, name: str) -> Place:
        details = self._command.inspect("container", name)
        (endpoint,) = details["NetworkSettings"]["Networks"].values()
        return Place(name, endpoint["IPAddress"], PORTS[name], details["State"]["Pid"])

    def _require_reachable(self, place: Place) -> None:
        if not observe(place, [place])[place.name].connected:
            raise ConnectionError(f"{place.name} does not listen on port {place.port} yet")


def free_port(preferred: int) -> int:
    """``preferred`` if nothing listens there on 127.0.0.1, else a port that is free now."""
    for port in (preferred, 0):
        with socket.socket() as candidate, suppress(OSError):
            candidate.bind(("127.0.0.1", port))
            return int(candidate.getsockname()[1])
    raise DemoError("no free port on 127.0.0.1")


def _expected(source: str, target: str) -> bool:
    return (source == "payment") == (target == "payment")


def _surprises(seen: dict[str, dict[str, Observation]]) -> list[str]:
    wrong = []
    for source, targets in seen.items():
        for target, observation in targets.items():
            expected = _expected(source, target)
            if observation.connected != expected:
                wrong.append(f"{source} {'cannot reach' if expected else 'reaches'} {target} by address")
            if observation.resolved != expected:
                wrong.append(f"{source} {'does not know' if expected else 'knows'} the name {target}")
    return wrong


def _matrix(seen: dict[str, dict[str, Observation]]) -> Table:
    table = Table(title="Who reaches whom (connection to its port / its name is known)", title_justify="left")
    table.add_column("from \\ to")
    for name in seen:
        table.add_column(name, justify="center")
    for source, targets in seen.items():
        cells = [f"{_word(seen_.connected)} / {_word(seen_.resolved)}" for seen_ in targets.values()]
        table.add_row(source, *cells)
    return table


def _word(value: bool) -> str:
    return "[green]yes[/green]" if value else "[red]no[/red]"
