"""Names that people did not choose: an adjective and one who weighed or measured things."""

from __future__ import annotations

import re
import secrets

NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")

_ADJECTIVES = """
    agile airy ample apt blithe brisk calm candid clear crisp deft eager exact fair fleet fond frank gentle glad
    handy hardy honest jolly keen kind lean light limber lively lucid merry mild neat nimble plain plucky polite
    quick quiet ready sharp shy simple slim smart sober solid sound spare spry stable steady subtle sunny supple
    swift tidy trim true vivid warm wise witty
"""
_PEOPLE = """
    archimedes banneker beaufort berzelius biruni brahe cavendish celsius chadwick coulomb curie dalton
    descartes eratosthenes euler fahrenheit fibonacci fizeau galileo gauss gay hero herschel hipparchus hooke
    huygens joule kelvin kepler khazini lavoisier leavitt lovelace meitner mendeleev meridith michelson millikan
    napier newton noether oersted ohm pascal planck ptolemy quetelet ramsay richter roberval roemer rumford
    rutherford siemens snell somerville thales torricelli tycho vernier volta watt weber
"""


def random_name(*, retry: int = 0) -> str:
    """``adjective_person``; with ``retry`` a digit is added, as the plain one was taken."""
    name = f"{secrets.choice(_ADJECTIVES.split())}_{secrets.choice(_PEOPLE.split())}"
    return f"{name}{secrets.randbelow(10 ** min(retry, 6))}" if retry else name
