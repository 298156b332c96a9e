"""What a request of the distribution API asks for. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlencode

from tare.errors import InvalidArgument, NotFound
from tare.model import Digest
from tare.registry.server.names import TAG, Repository

Kind = Literal["base", "catalog", "tags", "manifest", "blob", "referrers", "upload"]

_PAGE_LIMIT = 10_000  # names in one answer


@dataclass(frozen=True, slots=True)
class Wanted:
    """An endpoint (distribution-spec, "Endpoints") with its parameters; ``digest`` or ``tag`` where there is one."""

    kind: Kind
    repository: Repository | None = None
    tag: str = ""
    digest: Digest | None = None

    @property
    def label(self) -> str:
        """What was asked for, for people: ``debian:12``, ``debian@sha256:…``, ``debian``, or the kind."""
        if self.repository is None:
            return self.kind
        suffix = f"@{self.digest}" if self.digest else f":{self.tag}" if self.tag else ""
        return self.repository.name + suffix


def read_request(path: str, query: Mapping[str, str]) -> Wanted:
    """Raises NotFound for what is no endpoint, InvalidArgument for a name, tag or digest that is none."""
    if path in ("/v2", "/v2/"):
        return Wanted("base")
    if not path.startswith("/v2/"):
        raise NotFound("page not found", hint="the API begins at /v2/", code="UNSUPPORTED")
    rest = path.removeprefix("/v2/")
    if rest == "_catalog":
        return Wanted("catalog")
    registry = query.get("ns", "")
    if rest.endswith("/tags/list"):
        return Wanted("tags", Repository.parse(rest.removesuffix("/tags/list"), registry))
    upload, mark, _ = rest.partition("/blobs/uploads/")
    if mark:
        return Wanted("upload", Repository.parse(upload, registry))
    head, _, last = rest.rpartition("/")
    name, _, collection = head.rpartition("/")
    match collection:
        case "manifests" if ":" not in last:
            if not TAG.fullmatch(last):
                raise InvalidArgument(f"invalid tag {last[:128]!r}", code="TAG_INVALID")
            return Wanted("manifest", Repository.parse(name, registry), tag=last)
        case "manifests":
            return Wanted("manifest", Repository.parse(name, registry), digest=_digest(last))
        case "blobs":
            return Wanted("blob", Repository.parse(name, registry), digest=_digest(last))
        case "referrers":
            return Wanted("referrers", Repository.parse(name, registry), digest=_digest(last))
        case _:
            pass
    raise NotFound("page not found", hint="see the endpoints of the OCI distribution specification", code="UNSUPPORTED")


def _digest(text: str) -> Digest:
    try:
        return Digest.parse(text)
    except InvalidArgument as error:
        raise InvalidArgument(
            f"invalid digest {text[:200]!r}", hint="sha256 and 64 hexadecimal digits", code="DIGEST_INVALID"
        ) from error


def page(names: Sequence[str], query: Mapping[str, str], path: str) -> tuple[list[str], str]:
    """A part of sorted ``names``, and the ``Link`` header to the rest (empty without any).

    Query ``n`` is how many, ``last`` the name behind which to go on. Raises InvalidArgument.
    """
    text = query.get("n", str(_PAGE_LIMIT))
    if not text.isascii() or not text.isdecimal() or len(text) > 9:
        raise InvalidArgument(f"invalid number of results {text[:20]!r}", code="PAGINATION_NUMBER_INVALID")
    count, last = min(int(text), _PAGE_LIMIT), query.get("last", "")
    following = [name for name in names if name > last]
    chosen = following[:count]
    if not chosen or len(chosen) == len(following):
        return chosen, ""
    more = {"last": chosen[-1], "n": str(count)} | ({"ns": query["ns"]} if query.get("ns") else {})
    return chosen, f'<{path}?{urlencode(more)}>; rel="next"'
