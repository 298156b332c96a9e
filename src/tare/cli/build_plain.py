"""A build as lines of text, and why it failed."""

from __future__ import annotations

import json
import sys
from typing import Any

from tare.cli.units import human_size

Event = dict[str, Any]


class QuietView:
    """Shows nothing; knows the names of the steps and the findings of the build checks."""

    def __init__(self) -> None:
        self.names: dict[str, str] = {}
        self.findings: list[Event] = []

    def __enter__(self) -> QuietView:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def show(self, event: Event) -> None:
        """Take note of one event."""
        match str(event["event"]):
            case "plan":
                self.names |= {step["id"]: step["name"] for step in event["vertices"]}
            case "started":
                self.names[event["id"]] = event["name"]
            case "finding":
                self.findings.append(event)
            case _:
                pass


class JsonView(QuietView):
    """Every event as a JSON document on a line of its own, on standard error; the last is ``result`` or ``error``."""

    def show(self, event: Event) -> None:
        """Print ``event``."""
        super().show(event)
        print(json.dumps(event, separators=(",", ":")), file=sys.stderr, flush=True)


class PlainView(QuietView):
    """One line for everything that happens, on standard error; output lines carry the number of their step."""

    def __init__(self) -> None:
        super().__init__()
        self._numbers: dict[str, int] = {}
        self._running: dict[str, None] = {}
        self._partial: dict[tuple[str, str], str] = {}
        self._noticed: dict[str, str] = {}

    def __exit__(self, *exception: object) -> None:
        for identifier in list(self._running):
            self._flush(identifier)
            self._line(identifier, "CANCELED")

    def show(self, event: Event) -> None:
        """Print what ``event`` says."""
        super().show(event)
        match str(event["event"]):
            case "started":
                self._running[event["id"]] = None
                self._line(event["id"], event["name"])
            case "output":
                self._output(event)
            case "done":
                self._running.pop(event["id"], None)
                self._flush(event["id"])
                size = f", {human_size(event['bytes'])}" if event["bytes"] else ""
                self._line(event["id"], "CACHED" if event["cached"] else f"DONE {event['seconds']:.1f}s{size}")
            case "failed":
                self._running.pop(event["id"], None)
                self._flush(event["id"])
                self._line(event["id"], f"ERROR: {event['error'].splitlines()[0]}")
            case "notice":
                self._notice(event)
            case _:
                pass  # what only other views show

    def _number(self, identifier: str) -> int:
        return self._numbers.setdefault(identifier, len(self._numbers) + 1)

    def _line(self, identifier: str, text: str) -> None:
        print(f"#{self._number(identifier)} {text}", file=sys.stderr, flush=True)

    def _output(self, event: Event) -> None:
        key = (event["id"], event["stream"])
        *lines, rest = (self._partial.get(key, "") + event["data"]).split("\n")
        self._partial[key] = rest
        for line in lines:
            self._line(event["id"], line.rstrip("\r").rpartition("\r")[2])

    def _flush(self, identifier: str) -> None:
        for key in [key for key in self._partial if key[0] == identifier]:
            rest = self._partial.pop(key)
            if rest:
                self._line(identifier, rest)

    def _notice(self, event: Event) -> None:
        if event.get("total") or self._noticed.get(event["id"]) == event["text"]:
            return  # a step of a transfer, or what was said before
        self._noticed[event["id"]] = event["text"] if event["id"] else ""
        text = f"WARNING: {event['text']}" if event["level"] == "warning" else event["text"]
        if event["id"] in self.names:
            self._line(event["id"], text)
        else:
            print(f"{event['id']}: {text}" if event["id"] else text, file=sys.stderr, flush=True)


def show_failure(event: Event, names: dict[str, str]) -> None:
    """Why a build failed, on standard error."""
    output = event.get("output") or []
    if output:
        print("------", file=sys.stderr)
        for line in output:
            print(f" > {line}", file=sys.stderr)
        print("------", file=sys.stderr)
    if event.get("place"):
        print(event["place"], file=sys.stderr)
    message = event.get("message") or "the engine ended the build without a result"
    print(f"ERROR: failed to build: {message}", file=sys.stderr)
