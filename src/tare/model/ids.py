"""Identifiers of containers, networks, execs and snapshots: 64 random hex digits, as Docker's."""

from __future__ import annotations

import secrets


def new_id() -> str:
    """A fresh identifier of 64 hex digits whose 12-digit short form is not all decimal digits.

    An all-decimal short form would be taken for a number by tools that set it as a host name.
    """
    while True:
        value = secrets.token_hex(32)
        if not value[:12].isdecimal():
            return value


def short_id(identifier: str) -> str:
    """The 12-digit form that people type; a ``sha256:`` prefix is dropped first."""
    return identifier.removeprefix("sha256:")[:12]
