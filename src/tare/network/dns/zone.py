"""Who is on which network under which names, and what a container may learn of it."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Record:
    """An endpoint as the name server knows it; ``names`` begins with the container's name.

    ``links`` are aliases that it alone resolves, with the names on the network that they stand for.
    """

    network: str
    network_name: str
    container: str
    names: tuple[str, ...]
    addresses: tuple[str, ...]
    links: Mapping[str, str] = field(default_factory=dict)


class Zone:
    """Endpoints, indexed by what is looked up. Names are compared without regard to case (RFC 4343)."""

    def __init__(self) -> None:
        self._records: dict[tuple[str, str], Record] = {}
        self._by_name: dict[tuple[str, str], dict[str, Record]] = {}
        self._by_address: dict[tuple[str, str], Record] = {}
        self._networks: dict[str, set[str]] = {}
        self.version = 0
        """Changes with the content, so that what was derived from it can be told to be of old."""

    def put(self, record: Record) -> None:
        """Add or replace an endpoint."""
        self.version += 1
        self.forget(record.network, record.container)
        self._records[record.network, record.container] = record
        for name in self._spellings(record):
            self._by_name.setdefault((record.network, name), {})[record.container] = record
        for address in record.addresses:
            self._by_address[record.network, address] = record
        self._networks.setdefault(record.container, set()).add(record.network)

    def forget(self, network: str, container: str) -> None:
        """Drop an endpoint; absence is no error."""
        record = self._records.pop((network, container), None)
        if record is None:
            return
        self.version += 1
        for name in self._spellings(record):
            holders = self._by_name[network, name]
            holders.pop(container, None)
            if not holders:
                del self._by_name[network, name]
        for address in record.addresses:
            if self._by_address.get((network, address)) is record:
                del self._by_address[network, address]
        self._networks[container].discard(network)
        if not self._networks[container]:
            del self._networks[container]

    def addresses(self, container: str, name: str) -> list[str]:
        """The addresses of ``name`` as ``container`` sees it, in changing order; empty when unknown to it.

        Of several networks that both are on, the first by name answers alone, as in Docker: the addresses of a
        name then lie in one subnet.
        """
        wanted = name.rstrip(".").lower()
        for network in self._seen(container):
            holders = self._by_name.get((network, self._meant(network, container, wanted)))
            if holders:
                found = {address: None for record in holders.values() for address in record.addresses}
                return random.sample(list(found), len(found))
        return []

    def name_of(self, container: str, address: str) -> str | None:
        """``name.network`` of an address on a network that ``container`` is on."""
        for network in self._seen(container):
            record = self._by_address.get((network, address))
            if record is not None:
                return f"{record.names[0]}.{record.network_name}"
        return None

    def _meant(self, network: str, container: str, name: str) -> str:
        """The name that ``container`` means by ``name``: its own aliases on a network come first."""
        return self._records[network, container].links.get(name, name).lower()

    def _seen(self, container: str) -> list[str]:
        """The networks that a container is on, by name."""
        mine = self._networks.get(container, ())
        return sorted(mine, key=lambda network: self._records[network, container].network_name)

    def keys(self) -> Iterable[tuple[str, str]]:
        """(network, container) of every endpoint, sorted."""
        return sorted(self._records)

    def __len__(self) -> int:
        return len(self._records)

    @staticmethod
    def _spellings(record: Record) -> Iterator[str]:
        suffix = record.network_name.lower()
        for name in {name.lower() for name in record.names}:
            yield name
            yield f"{name}.{suffix}"
