"""What the catalogue offers, for people: each repository with what is in it and how it runs. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from tare.distroless import recipes
from tare.distroless.recipes import COMMON, RECIPES, Recipe, Variant
from tare.distroless.settings import RELEASES
from tare.errors import NotFound
from tare.model.reference import VIRTUAL_DOMAIN
from tare.oci.image import ExecutionConfig

VARIANTS = ("", "-nonroot", "-debug", "-debug-nonroot")
ANY_PACKAGES = f"{VIRTUAL_DOMAIN}/deb/<package>[/<package>…]"
_DEBIAN_SIZE = 77_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """One repository. ``size`` is about what the layer of its first tag has, in bytes; 0 where nobody knows.

    ``packages`` come with what they need, save ``left_out`` (package → reason) and the files ``without`` (pattern →
    reason); ``tools`` are in images with ``debug`` only. ``plain`` and ``nonroot`` are how those variants run.
    """

    repository: str
    content: str
    tags: tuple[str, ...]
    size: int = 0
    packages: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)
    without: Mapping[str, str] = field(default_factory=dict)
    plain: ExecutionConfig = field(default_factory=ExecutionConfig)
    nonroot: ExecutionConfig = field(default_factory=ExecutionConfig)

    def has(self, name: str) -> bool:
        """Whether the repository ``name`` (with its registry) is this one."""
        if self.repository == ANY_PACKAGES:
            return name.startswith(f"{VIRTUAL_DOMAIN}/deb/")
        return name == self.repository


def offers() -> list[Offer]:
    """All repositories, the one of free choice last."""
    release = RELEASES[0].version
    variants = tuple(f"{release}{variant}" for variant in VARIANTS)
    whole = Offer(
        repository=f"{VIRTUAL_DOMAIN}/debian",
        content="Debian with apt, as in a minimal installation",
        tags=(release,),
        size=_DEBIAN_SIZE,
        plain=ExecutionConfig(user="0", cmd=["bash"]),
    )
    chosen = Offer(
        repository=ANY_PACKAGES,
        content="packages of your choice with what they need",
        tags=variants,
        packages=COMMON,
    )
    return [whole, *(_distroless(name, recipe, variants) for name, recipe in RECIPES.items()), chosen]


def find_offer(name: str) -> Offer:
    """The repository ``name``: in full, without the registry, or its last word (``nginx``); a tag does not matter.

    Raises NotFound with what is near.
    """
    path = name.removeprefix(f"{VIRTUAL_DOMAIN}/").partition(":")[0]
    everything = offers()
    for offer in everything[:-1]:
        own = offer.repository.removeprefix(f"{VIRTUAL_DOMAIN}/")
        if path in (own, own.removeprefix("distroless/")):
            return offer
    if path == "deb" or path.startswith("deb/"):
        return everything[-1]
    known = [offer.repository.rpartition("/")[2] for offer in everything[:-1]]
    close = difflib.get_close_matches(path.rpartition("/")[2], known, n=1)
    meant = f"did you mean {close[0]}? " if close else ""
    raise NotFound(
        f"{name} is not in the catalogue", hint=f"{meant}there are {', '.join(known)}, deb", code="catalogue-unknown"
    )


def _distroless(name: str, recipe: Recipe, tags: tuple[str, ...]) -> Offer:
    described = replace(recipe, java_version_of="")  # which one it will be is known once it is assembled
    return Offer(
        repository=f"{VIRTUAL_DOMAIN}/distroless/{name}",
        content=recipe.content,
        tags=tags,
        size=recipe.size,
        packages=(*recipe.packages, *sorted(recipe.only_slices)),
        tools=(*recipe.tools, *sorted(recipe.tool_slices)),
        left_out=recipe.left_out,
        without=recipe.without,
        plain=recipes.execution(described, []),
        nonroot=recipes.execution(replace(described, variant=Variant(nonroot=True)), []),
    )
