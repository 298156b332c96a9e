"""The table of causes, the code that names them and the page that explains them say the same."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from tare.diagnosis.causes import CAUSES

CHECKOUT = Path(__file__).parents[3]
ROOM = CHECKOUT / "src" / "tare" / "diagnosis"
ELSEWHERE = {"port-in-use"}
"""Codes of errors that know their cause by themselves."""
_CODE = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)+|crlf")


def test_every_code_is_in_the_table_and_every_row_is_used() -> None:
    used = set()
    for path in ROOM.glob("*.py"):
        if path.name in ("causes.py", "places.py", "losses.py"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.keyword) and node.arg == "code" and isinstance(node.value, ast.Constant):
                used.add(node.value.value)
            elif isinstance(node, ast.Assign):
                used |= {
                    value.value
                    for value in ast.walk(node.value)
                    if isinstance(value, ast.Constant) and isinstance(value.value, str) and value.value in CAUSES
                }
    assert used | ELSEWHERE == set(CAUSES)


def test_the_page_has_the_same_rows() -> None:
    rows = re.findall(r"^\| `([a-z0-9-]+)` \| (.+?) \| (.+?) \|$", (CHECKOUT / "docs/diagnosis.md").read_text(), re.M)
    assert [(code, cause) for code, cause, _ in rows] == list(CAUSES.items())
    assert all(fix for *_, fix in rows)


def test_codes_are_words_with_hyphens() -> None:
    assert all(_CODE.fullmatch(code) for code in CAUSES)


def test_no_sentence_has_the_words_that_dockers_client_takes_exit_codes_from() -> None:
    """``docker run`` looks for them in the whole message (cli/command/container/run.go, toStatusError)."""
    words = ("executable file not found", "no such file or directory", "permission denied", "is a directory")
    for path in ROOM.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.keyword) and node.arg in ("cause", "fix"):
                text = ast.unparse(node.value).lower()
                meant = "{path} is a directory"  # where the runtime says so, too
                assert not any(word in text.replace(meant, "") for word in words), text
