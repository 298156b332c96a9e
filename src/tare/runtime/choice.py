"""The runtimes that containers may ask for by name (``--runtime``), and which container has which."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tare.errors import InvalidArgument, TareError
from tare.runtime.host import HostFacts
from tare.runtime.oci_runtime import OciRuntime
from tare.runtime.probe import RUNTIMES, probe_runtimes

_ALIASES = ("io.containerd.runc.v2",)
"""Docker's other name of its default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeChoice:
    """``default`` runs what names no runtime; ``named``: those configured that work, ``broken``: why others do not.

    ``probe`` tries a program and gives the runtime that it is.
    """

    default: OciRuntime
    probe: Callable[[Sequence[str]], Awaitable[OciRuntime]]
    named: dict[str, OciRuntime] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)

    @property
    def paths(self) -> dict[str, str]:
        """Program by name, as ``info`` lists them."""
        return {self.default.name: self.default.path} | {name: runtime.path for name, runtime in self.named.items()}

    async def check(self, name: str) -> None:
        """Raises InvalidArgument in Docker's words for a name that is not known or does not work here.

        The well-known runtimes need no configuration: they are tried when they are asked for first.
        """
        if name in RUNTIMES and name not in self.paths and name not in self.broken:
            try:
                self.named[name] = await self.probe((name,))
            except TareError as error:
                self.broken[name] = error.message
        if name in self.paths or name in _ALIASES:
            return
        names = ", ".join(sorted(self.paths))
        raise InvalidArgument(
            f"unknown or invalid runtime name: {name}",
            hint=self.broken.get(name) or f"this engine has {names}; others are named in [runtimes]",
            code="unknown-runtime",
        )

    def assign(self, container_id: str, name: str) -> None:
        """Have the runtime ``name`` run this container from now on; the default for names not configured any more."""
        if (runtime := self.named.get(name)) is not None:
            self.default.assigned[container_id] = runtime
        else:
            self.default.assigned.pop(container_id, None)


async def choose_runtimes(
    facts: HostFacts,
    root: Path,
    *,
    default: str,
    configured: Mapping[str, str],
    cache: Path,
    cgroup_parent: str,
) -> RuntimeChoice:
    """Probe the default runtime and the configured ones (name to program), each with a real container, once.

    ``default`` is a configured name, a program, or empty for the first of crun and runc that works. Raises Unavailable
    when the default does not work; others that do not are refused when they are asked for.
    """

    async def probe(names: Sequence[str], place: Path) -> OciRuntime:
        return await probe_runtimes(facts, place, names=names, cache=cache, cgroup_parent=cgroup_parent)

    chosen = await probe((configured.get(default, default),) if default else RUNTIMES, root)
    named: dict[str, OciRuntime] = {}
    broken: dict[str, str] = {}
    for name, program in configured.items():
        try:
            named[name] = await probe((program,), root / "runtimes" / name)
        except TareError as error:
            broken[name] = error.message
    return RuntimeChoice(default=chosen, probe=lambda names: probe(names, root), named=named, broken=broken)
