"""Questions about reachability as the API takes them."""

from __future__ import annotations

from typing import Any

import pytest

from tare.api.schema.reachability import MOST_QUESTIONS, read_questions
from tare.errors import InvalidArgument


def test_questions_are_read_in_their_order() -> None:
    asked = [{"from": "login", "to": "payment", "port": "80/udp"}, {"from": "outside", "to": "host"}]
    assert read_questions({"questions": asked}) == [("login", "payment", "80/udp"), ("outside", "host", "")]
    assert read_questions({"questions": []}) == []


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({}, "missing required field `questions`"),
        ({"questions": {}}, "Expected `array`"),
        ({"questions": [{"from": "login"}]}, "missing required field `to`"),
        ({"questions": [{"from": "login", "to": "payment", "port": 80}]}, r"Expected `str`, got `int`.*\.port"),
        ({"questions": [{"from": "login", "to": "payment", "prot": "80"}]}, "unknown field `prot`"),
        ({"questions": [{"from": "a", "to": "b"}] * (MOST_QUESTIONS + 1)}, "length <= 10000"),
    ],
)
def test_bad_questions_are_refused(document: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidArgument, match=said):
        read_questions(document)
