"""Image references and their normalisation, as Docker has it (distribution/reference grammar)."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from tare.errors import InvalidArgument
from tare.model.digest import Digest

DEFAULT_DOMAIN = "docker.io"
DEFAULT_NAMESPACE = "library"
DEFAULT_TAG = "latest"
VIRTUAL_DOMAIN = "tare.local"
NAME_LIMIT = 255  # total length of domain and path, distribution/reference

_PATH_COMPONENT = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*")
_DOMAIN = re.compile(
    r"(?:(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
    r"(?:\.(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9]))*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
)
_ID = re.compile(r"[a-f0-9]{64}")
_INVALID = "invalid reference format"
_TAG = re.compile(r"[\w][\w.-]{0,127}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Reference:
    """A normalised reference: ``domain/path[:tag][@digest]``.

    ``str()`` gives the canonical form, :meth:`familiar` the short form that Docker prints.
    """

    domain: str
    path: str
    tag: str = ""
    digest: Digest | None = None

    @classmethod
    def parse(cls, text: str, *, default_tag: str = DEFAULT_TAG) -> Reference:
        """Read what a user typed; a reference with neither tag nor digest gets ``default_tag``.

        Raises InvalidArgument with Docker's wording (``invalid reference format``).
        """
        if _ID.fullmatch(text):
            raise InvalidArgument(
                f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings", hint="that is an ID"
            )
        rest, _, digest_text = text.partition("@")
        digest = _parse_digest(text, digest_text) if "@" in text else None
        name, tag = rest, ""
        colon = rest.rfind(":")
        if colon > rest.rfind("/"):
            name, tag = rest[:colon], rest[colon + 1 :]
            if not _TAG.fullmatch(tag):
                raise InvalidArgument(_INVALID, hint=f"{text!r} has the invalid tag {tag!r}")
        domain, path = _split_domain(name)
        if path != path.lower():
            raise InvalidArgument(f"invalid reference format: repository name ({path}) must be lowercase")
        if not path or not all(_PATH_COMPONENT.fullmatch(part) for part in path.split("/")):
            raise InvalidArgument(_INVALID, hint=f"{text!r} is not an image name")
        if not _DOMAIN.fullmatch(domain):
            raise InvalidArgument(_INVALID, hint=f"{text!r} has the invalid registry {domain!r}")
        if len(domain) + 1 + len(path) > NAME_LIMIT:
            raise InvalidArgument(_INVALID, hint=f"the name is longer than {NAME_LIMIT} characters")
        if not tag and digest is None:
            tag = default_tag
        return cls(domain, path, tag, digest)

    def __str__(self) -> str:
        return self.name + self._suffix()

    def _suffix(self) -> str:
        return (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")

    @property
    def name(self) -> str:
        """``domain/path`` without tag and digest."""
        return f"{self.domain}/{self.path}"

    @property
    def familiar_name(self) -> str:
        """The name without the default registry and namespace."""
        if self.domain != DEFAULT_DOMAIN:
            return self.name
        return self.path.removeprefix(DEFAULT_NAMESPACE + "/")

    def familiar(self) -> str:
        """The short form that Docker prints, such as ``debian:12``."""
        return self.familiar_name + self._suffix()

    @property
    def is_virtual(self) -> bool:
        """Whether Tare assembles this image itself (registry ``tare.local``)."""
        return self.domain == VIRTUAL_DOMAIN

    def with_tag(self, tag: str) -> Reference:
        """The same repository under another tag, without digest."""
        return replace(self, tag=tag, digest=None)


def is_domain(text: str) -> bool:
    """Whether ``text`` can stand before the first slash of a reference: a host, with or without port."""
    return _DOMAIN.fullmatch(text) is not None


def _parse_digest(text: str, digest_text: str) -> Digest:
    try:
        return Digest.parse(digest_text)
    except InvalidArgument as error:
        raise InvalidArgument(_INVALID, hint=f"{text!r} has an invalid digest") from error


def normal_domain(domain: str) -> str:
    """The domain as references have it: the default one has a second name in old credentials."""
    return DEFAULT_DOMAIN if domain == "index.docker.io" else domain


def _split_domain(name: str) -> tuple[str, str]:
    head, slash, tail = name.partition("/")
    if not slash or not ("." in head or ":" in head or head == "localhost" or head.lower() != head):
        domain, path = DEFAULT_DOMAIN, name
    else:
        domain, path = head, tail
    domain = normal_domain(domain)
    if domain == DEFAULT_DOMAIN and path and "/" not in path:
        path = f"{DEFAULT_NAMESPACE}/{path}"
    return domain, path
