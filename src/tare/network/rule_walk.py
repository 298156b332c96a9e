"""What the firewall's rules do with a packet: each hook evaluated as the kernel does (nft(8)), with the rules named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from tare.errors import InternalError
from tare.network.packet import Packet, fits, normal
from tare.network.rule_text import Chain, Elements, Rule, Table

_SELECTOR_WORDS = (3, 2, 1)
_FINAL = ("accept", "drop", "reject")
_COUNTER_WORDS = 4  # packets N bytes N
_LOG_OPTIONS = ("prefix", "level", "group", "snaplen", "queue-threshold", "flags")


@dataclass(frozen=True, slots=True)
class Decision:
    """A rule that decided something: ``action`` is accept, drop, reject, ``dnat to …`` or ``masquerade as …``."""

    hook: str
    chain: str
    rule: str
    comment: str
    action: str


@dataclass(frozen=True, slots=True)
class Passage:
    """A packet after a hook, and what was decided; ``verdict`` is accept, drop or reject."""

    packet: Packet
    verdict: str
    decisions: tuple[Decision, ...]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What rules ask the kernel: whether an address is the host's, and the host's address on an interface.

    ``address_on`` takes interface name and IP version and returns what masquerading writes into a packet.
    """

    is_local: Callable[[str], bool]
    address_on: Callable[[str, int], str]


class RuleWalk:
    """Evaluates a table. Raises InternalError (code ``rule-not-modelled``) for a rule that it does not understand."""

    def __init__(self, table: Table, surroundings: Surroundings) -> None:
        self._table = table
        self._surroundings = surroundings

    def at(self, hook: str, packet: Packet) -> Passage:
        """What happens to ``packet`` at a hook; translation belongs to a connection's first packet."""
        decisions: list[Decision] = []
        for chain in self._table.at(hook):
            if chain.kind == "nat" and packet.state != "new":
                continue
            packet, verdict = self._chain(chain, packet, hook, decisions)
            if verdict in ("drop", "reject"):
                return Passage(packet, verdict, tuple(decisions))
            if verdict != "accept" and chain.policy != "accept":
                decisions.append(Decision(hook, chain.name, f"policy {chain.policy}", "", chain.policy))
                return Passage(packet, chain.policy, tuple(decisions))
        return Passage(packet, "accept", tuple(decisions))

    def _chain(self, chain: Chain, packet: Packet, hook: str, decisions: list[Decision]) -> tuple[Packet, str]:
        """The packet and ``accept``, ``drop``, ``reject``, or ``return`` at the chain's end."""
        for rule in chain.rules:
            reading = _Reading(rule, packet, self._table.sets, self._surroundings)
            action = reading.run()
            packet = reading.packet
            word, _, target = action.partition(" ")
            if word in ("jump", "goto"):
                if word == "goto" or reading.looked_up:
                    decisions.append(Decision(hook, chain.name, rule.text, rule.comment, action))
                packet, verdict = self._chain(self._table.chains[target], packet, hook, decisions)
                if verdict in _FINAL or word == "goto":
                    return packet, verdict
            elif word:
                decisions.append(Decision(hook, chain.name, rule.text, rule.comment, action))
                return packet, word if word in (*_FINAL, "return") else "accept"
        return packet, "return"


class _Reading:
    """One rule read against one packet, from left to right."""

    def __init__(self, rule: Rule, packet: Packet, sets: dict[str, Elements], surroundings: Surroundings) -> None:
        self.packet = packet
        self.looked_up = False
        self._rule = rule
        self._sets = sets
        self._surroundings = surroundings
        self._place = 0

    def run(self) -> str:
        """What the rule does with the packet; empty when it does not match or lets it go on."""
        tokens = self._rule.tokens
        while self._place < len(tokens):
            word = tokens[self._place]
            if word in ("accept", "drop", "return", "reject"):
                return word
            if word in ("jump", "goto"):
                return f"{word} {tokens[self._place + 1]}"
            if word == "masquerade":
                return self._masquerade()
            if word == "dnat":
                return self._dnat()
            if word == "counter":
                self._place += 1 + (_COUNTER_WORDS if self._peek(1) == "packets" else 0)
            elif word == "log":
                self._place += 1
                while self._peek(0) in _LOG_OPTIONS:
                    self._place += 2
            elif word in ("meta", "ct") and self._peek(1) == "mark" and self._peek(2) == "set":
                self._set_mark(word)
            else:
                action = self._match()
                if action is None:
                    return ""
                if action:
                    return action
        return ""

    def _peek(self, distance: int) -> str:
        place = self._place + distance
        return self._rule.tokens[place] if place < len(self._rule.tokens) else ""

    def _next(self) -> str:
        word = self._peek(0)
        self._place += 1
        return word

    def _unknown(self) -> InternalError:
        return InternalError(
            f"firewall rule {self._rule.text!r}: {self._peek(0)!r} cannot be predicted", code="rule-not-modelled"
        )

    def _selectors(self) -> list[tuple[str, ...] | None]:
        """The values of ``a . b . c``."""
        values = []
        while True:
            values.append(self._selector())
            if self._peek(0) != ".":
                return values
            self._place += 1

    def _selector(self) -> tuple[str, ...] | None:
        for count in _SELECTOR_WORDS:
            words = self._rule.tokens[self._place : self._place + count]
            try:
                found = self.packet.fields(" ".join(words))
            except KeyError:
                continue
            self._place += count
            return found
        raise self._unknown()

    def _match(self) -> str | None:
        """None when the packet does not match; else the verdict of a map, or an empty string to read on."""
        values = self._selectors()
        word = self._peek(0)
        if word == "vmap":
            self._place += 1
            self.looked_up = True
            return self._look_up(values, self._elements())
        negated = word == "!="
        if word in ("!=", "=="):
            self._place += 1
        found = self._look_up(values, self._elements())
        if any(value is None for value in values):
            return None
        return "" if (found is None) == negated else None

    def _elements(self) -> Elements:
        """The set that stands here: named, in braces, or a list of values."""
        word = self._next()
        if word.startswith("@"):
            if word[1:] not in self._sets:
                raise self._unknown()
            return self._sets[word[1:]]
        found = Elements()
        if word != "{":
            found.add(word)
            while self._peek(0) == ",":
                self._place += 1
                found.add(self._next())
            return found
        words: list[str] = []
        while (word := self._next()) not in ("}", ""):
            if word == ",":
                found.add(" ".join(words))
                words = []
            else:
                words.append(word)
        if words:
            found.add(" ".join(words))
        return found

    def _look_up(self, values: list[tuple[str, ...] | None], elements: Elements) -> str | None:
        """The element that the values are in: its value, empty in a set; None when there is none."""
        keys: list[tuple[str, ...]] = [()]
        for value in values:
            if value is None:
                return None
            keys = [(*key, one) for key in keys for one in value]
        for key in keys:
            if key in elements.exact:
                return elements.exact[key]
        for pattern, found in elements.patterns:
            if any(all(map(fits, key, pattern)) for key in keys):
                return found
        return None

    def _masquerade(self) -> str:
        address = self._surroundings.address_on(self.packet.oif, self.packet.version)
        self.packet = replace(self.packet, source=address)
        return f"masquerade as {address}"

    def _dnat(self) -> str:
        self._place += 1
        family = self._next() if self._peek(0) in ("ip", "ip6") else ""
        if self._next() != "to":
            raise self._unknown()
        if family and self.packet.version != (4 if family == "ip" else 6):
            return ""
        if self._peek(2) in (".", "map") or self._peek(1) in (".", "map"):
            values = self._selectors()
            if self._next() != "map":
                raise self._unknown()
            found = self._look_up(values, self._elements())
            if found is None:
                return ""
            address, _, port = found.partition(" . ")
        else:
            address, port = _split_target(self._next())
        self._translate(normal(address.strip()), port.strip())
        shown = f"[{address}]" if ":" in address else address
        return f"dnat to {shown}:{self.packet.port}" if self.packet.port else f"dnat to {address}"

    def _translate(self, address: str, port: str) -> None:
        number = self.packet.port
        if port and not fits(str(number), port):  # within a range the port stays what it was
            number = int(port.partition("-")[0])
        self.packet = replace(
            self.packet,
            destination=address,
            port=number,
            translated=True,
            local=self._surroundings.is_local(address),
        )

    def _set_mark(self, kind: str) -> None:
        self._place += 3
        word = self._peek(0)
        if word in ("meta", "ct"):
            value = self._selector() or ("0",)
            number = int(value[0])
        else:
            try:
                number = int(word, 0)
            except ValueError as error:
                raise self._unknown() from error
            self._place += 1
        if self._peek(0) in ("or", "and", "xor", "|", "&", "^"):
            raise self._unknown()
        if kind == "meta":
            self.packet = replace(self.packet, mark=number)
        else:
            self.packet = replace(self.packet, connection_mark=number)


def _split_target(text: str) -> tuple[str, str]:
    """Address and port (either may be missing) of ``10.0.0.2:80`` or ``[fd00::2]:80``."""
    if text.startswith("["):
        address, _, port = text[1:].partition("]")
        return address, port.lstrip(":")
    if text.count(":") > 1:
        return text, ""
    address, _, port = text.partition(":")
    return address, port
