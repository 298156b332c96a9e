"""Names of repositories: what an image is offered as, and what a client may ask for. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tare.errors import InvalidArgument
from tare.model import Reference
from tare.model.reference import DEFAULT_DOMAIN, DEFAULT_NAMESPACE, NAME_LIMIT, VIRTUAL_DOMAIN

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_NAME = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")
"""A tag (distribution-spec, "Pulling manifests")."""


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository as a client asks for it.

    ``registry`` is the one that this server stands in for (query ``ns``, which containerd adds for a mirror); empty:
    none, all registries' images are offered side by side.
    """

    name: str
    registry: str = ""

    @classmethod
    def parse(cls, name: str, registry: str = "") -> Repository:
        """Raises InvalidArgument (``NAME_INVALID``)."""
        if len(name) > NAME_LIMIT or not _NAME.fullmatch(name):
            raise InvalidArgument(f"invalid repository name {name[:NAME_LIMIT]!r}", code="NAME_INVALID")
        return cls(name, registry)

    def rank(self, reference: Reference) -> int | None:
        """How well an image's name fits, 0 being best; None when it is not of this repository.

        Docker's default registry goes first, as in Docker's own short names, then the registry in the name, then
        ``tare.local``.
        """
        if self.registry:
            here = reference.domain == self.registry and reference.path == self.name
            return 0 if here else None
        if self.name not in names_of(reference):
            return None
        return {DEFAULT_DOMAIN: 0, VIRTUAL_DOMAIN: 2}.get(reference.domain, 1)

    def virtual(self, tag: str) -> Reference | None:
        """What ``tare.local`` would be asked for; None when this server stands in for another registry."""
        if self.registry not in ("", VIRTUAL_DOMAIN):
            return None
        path = self.name if self.registry else self.name.removeprefix(f"{VIRTUAL_DOMAIN}/")
        return Reference(VIRTUAL_DOMAIN, path, tag)


def names_of(reference: Reference) -> tuple[str, ...]:
    """The repositories that an image is offered in, the shortest name first.

    Images of Docker's default registry and of ``tare.local`` go without it; a colon in a registry's name becomes an
    underscore, as repositories have none. Empty for a registry that no repository can be called after (IPv6).
    """
    path = reference.path
    if reference.domain == DEFAULT_DOMAIN:
        namespace = f"{DEFAULT_NAMESPACE}/"
        return (path.removeprefix(namespace), path) if path.startswith(namespace) else (path,)
    name = f"{reference.domain.lower().replace(':', '_')}/{path}"
    if len(name) > NAME_LIMIT or not _NAME.fullmatch(name):
        return ()
    return (path, name) if reference.is_virtual else (name,)
