"""Where the records of a DNS message are (RFC 1035, section 4), so that their lifetimes can be read and changed."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

HEADER_BYTES = 12
TYPE_SOA, TYPE_OPT = 6, 41


@dataclass(frozen=True, slots=True)
class Place:
    """A resource record in a message: its type, its TTL in seconds, where this is, and for SOA the last field."""

    kind: int
    ttl: int
    offset: int
    minimum: int = 0


def rcode(message: bytes) -> int:
    """The response code of a message of at least HEADER_BYTES."""
    return message[3] & 15


def question(message: bytes) -> bytes:
    """The question section in lower case, empty when there is none. Raises ValueError for what is no message."""
    try:
        end = _questions_end(message)
    except (IndexError, struct.error) as error:
        raise ValueError("not a DNS message") from error
    return message[HEADER_BYTES:end].lower()


def places(message: bytes) -> list[Place]:
    """Every record but the pseudo record of EDNS, whose TTL is none. Raises ValueError for what is no message."""
    try:
        offset = _questions_end(message)
        found = []
        for _ in range(sum(struct.unpack_from("!3H", message, 6))):
            offset = _skip_name(message, offset)
            kind, _, ttl, length = struct.unpack_from("!HHIH", message, offset)
            end = offset + 10 + length
            if end > len(message):
                raise ValueError("a record goes past the end of the message")
            minimum = struct.unpack_from("!I", message, end - 4)[0] if kind == TYPE_SOA and length >= 4 else 0
            if kind != TYPE_OPT:
                found.append(Place(kind, ttl, offset + 4, minimum))
            offset = end
    except (IndexError, struct.error) as error:
        raise ValueError("not a DNS message") from error
    return found


def aged(message: bytes, records: Sequence[Place], seconds: int) -> bytes:
    """The message as it is ``seconds`` later: every TTL counted down, at 0 at the lowest."""
    changed = bytearray(message)
    for place in records:
        struct.pack_into("!I", changed, place.offset, max(place.ttl - seconds, 0))
    return bytes(changed)


def _questions_end(message: bytes) -> int:
    offset = HEADER_BYTES
    for _ in range(struct.unpack_from("!H", message, 4)[0]):
        offset = _skip_name(message, offset) + 4
    if offset > len(message):
        raise ValueError("a question goes past the end of the message")
    return offset


def _skip_name(message: bytes, offset: int) -> int:
    while (length := message[offset]) != 0:
        if length & 0xC0:  # a pointer ends the name
            return offset + 2
        offset += 1 + length
    return offset + 1
