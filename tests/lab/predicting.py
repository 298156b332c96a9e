"""What Tare's ``network explain`` says about attempts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from engine_process import UnixConnection
from lab.attempts import BY_NAME, MEMBERS, PLACES, WITHIN, Attempt
from lab.lab import Lab
from lab.measuring import address_of
from lab.scene import NETWORKS, REROUTED

OUTSIDERS = {"neighbour": "neighbour@lan", "wan": "wan"}


def predictable(attempt: Attempt) -> bool:
    """Whether the question can be asked: the engine knows nothing of routes that somebody else gives a namespace.

    What no resolver knows has no outcome, and an address of a link alone (fe80::) belongs to every link.
    """
    if attempt.target.startswith(BY_NAME):
        target = attempt.target.removeprefix(BY_NAME)
        return any({attempt.source, target} <= set(MEMBERS[network.name]) for network in NETWORKS[1:])
    elsewhere = attempt.source in REROUTED and attempt.kind != WITHIN
    return not (elsewhere or attempt.target.startswith("link@"))


def explain(socket: Path, lab: Lab, attempts: Sequence[Attempt]) -> list[dict[str, Any]]:
    """The engine's answer for each attempt: what ``network explain --format json`` says, asked for all at once."""
    questions = [dict(zip(("from", "to", "port"), question(lab, attempt), strict=True)) for attempt in attempts]
    connection = UnixConnection(socket)
    try:
        connection.request("POST", "/tare/networks/explain", body=json.dumps({"questions": questions}))
        response = connection.getresponse()
        document = json.loads(response.read())
    finally:
        connection.close()
    assert response.status == 200, document
    answers: list[dict[str, Any]] = document["answers"]
    return answers


def question(lab: Lab, attempt: Attempt) -> tuple[str, str, str]:
    """Who, whom and at which port, in the words of ``network explain``."""
    source = attempt.source
    if source in OUTSIDERS:
        place = OUTSIDERS[source]
        source = PLACES[f"{place}/6" if attempt.six else place]
    service = f"{attempt.port}/{attempt.protocol}" if attempt.port else ""
    named = attempt.target.startswith(BY_NAME)
    target = attempt.target.removeprefix(BY_NAME) if named else address_of(lab, attempt.target)
    return source, target, service
