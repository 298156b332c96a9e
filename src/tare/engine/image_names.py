"""Which names images can be given."""

from __future__ import annotations

from tare.errors import InvalidArgument
from tare.model import Reference


def check_new_name(name: Reference, digest_refused: str) -> None:
    """Raises InvalidArgument for what no image can be called: with the words ``digest_refused`` for a digest."""
    if name.digest is not None:
        raise InvalidArgument(digest_refused, hint="a digest follows from the content; give a tag")
    if name.familiar_name == "sha256":
        raise InvalidArgument(
            "refusing to create an ambiguous tag using digest algorithm as name", hint="choose another name"
        )
