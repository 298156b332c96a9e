"""Answers about reachability as the API gives them; member names are in lower case, as nothing of Docker's is here."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from tare.api.params import convert
from tare.network.explanation import Answer
from tare.network.reachability import Hop

MOST_QUESTIONS = 10_000


class _Question(msgspec.Struct, forbid_unknown_fields=True):
    source: str = msgspec.field(name="from")
    target: str = msgspec.field(name="to")
    port: str = ""


class _Questions(msgspec.Struct, forbid_unknown_fields=True):
    questions: Annotated[list[_Question], msgspec.Meta(max_length=MOST_QUESTIONS)]


def read_questions(document: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Source, target and service of each question in the body of ``POST /tare/networks/explain``.

    Raises InvalidArgument.
    """
    return [(one.source, one.target, one.port) for one in convert(document, _Questions).questions]


def render_answer(answer: Answer) -> dict[str, Any]:
    """The answer of ``/tare/networks/explain``."""
    best, question = answer.prediction, answer.question
    return {
        "from": question.source,
        "to": question.target,
        "address": best.address,
        "port": answer.port or None,
        "protocol": question.protocol,
        "verdict": best.verdict.value,
        "reachable": best.verdict.value == "reachable",
        "open": best.open,
        "cause": best.cause.value,
        "reason": best.reason,
        "hops": [_hop(hop) for hop in best.hops],
        "allow": list(answer.allow),
        "attempts": [
            {
                "address": prediction.address,
                "port": port or None,
                "verdict": prediction.verdict.value,
                "cause": prediction.cause.value,
                "reason": prediction.reason,
            }
            for prediction, port in answer.attempts
        ],
    }


def _hop(hop: Hop) -> dict[str, Any]:
    return {"where": hop.where, "rule": hop.rule, "comment": hop.comment, "decision": hop.decision}
