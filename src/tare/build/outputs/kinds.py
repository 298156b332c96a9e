"""What each type of ``--output`` takes (BuildKit, "Output types"), and which outputs store an image."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

from tare.archive.compression import Compression
from tare.build.request import OutputRequest
from tare.errors import InvalidArgument
from tare.model import Reference

_COMPRESSION = ("compression", "compression-level", "force-compression")
_IMAGE = ("name", "oci-mediatypes", "rewrite-timestamp", *_COMPRESSION)
ATTRIBUTES: Mapping[str, tuple[str, ...]] = {
    "image": (*_IMAGE, "push", "store", "unpack", "dangling-name-prefix", "name-canonical"),
    "oci": (*_IMAGE, "tar"),
    "docker": (*_IMAGE, "tar"),
    "local": ("platform-split", "rewrite-timestamp"),
    "tar": ("platform-split", "rewrite-timestamp"),
    "cacheonly": (),
}
_KINDS = {"gzip": Compression.GZIP, "zstd": Compression.ZSTD, "uncompressed": Compression.NONE}


def check_output(output: OutputRequest) -> None:
    """Refuse what cannot be done before anything is built. Raises InvalidArgument, Unsupported."""
    known = ATTRIBUTES.get(output.type)
    if known is None:
        raise InvalidArgument(f'unknown output type "{output.type}"', hint=f"use {', '.join(ATTRIBUTES)}")
    for name in output.attributes:
        if name.startswith("annotation"):
            continue
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"it takes {', '.join(known) or 'none'}"
            raise InvalidArgument(f'output type "{output.type}" has no attribute "{name}"', hint=hint)
    compression_of(output)
    names_of(output)
    if output.type in ("local", "tar", "oci") and not output.destination:
        raise InvalidArgument(f'output type "{output.type}" needs a destination', hint="add dest=PATH")


def stores_image(outputs: Sequence[OutputRequest]) -> bool:
    """Whether the image goes to the store: without any output, and for what BuildKit would load or keep."""
    return not outputs or any(
        output.type == "image" or (output.type == "docker" and not output.destination) for output in outputs
    )


def compression_of(output: OutputRequest) -> Compression:
    """How layers of an archive are compressed. Raises InvalidArgument."""
    text = output.attributes.get("compression", "gzip")
    if text not in _KINDS:
        raise InvalidArgument(f'unsupported layer compression type "{text}"', hint=f"use {', '.join(_KINDS)}")
    return _KINDS[text]


def pushed_names(outputs: Sequence[OutputRequest], tags: Sequence[Reference]) -> tuple[Reference, ...]:
    """The names under which the image is pushed, those of its ``tags`` where the output has none of its own.

    Raises InvalidArgument for an output with ``push`` and no name.
    """
    found: list[Reference] = []
    for output in outputs:
        if output.type == "image" and flag(output, "push", default=False):
            names = names_of(output) or tuple(tags)
            if not names:
                raise InvalidArgument("tag is needed when pushing to registry", hint="name the image with --tag")
            found.extend(names)
    return tuple(dict.fromkeys(found))


def names_of(output: OutputRequest) -> tuple[Reference, ...]:
    """The names that the output itself gives the image. Raises InvalidArgument."""
    return tuple(Reference.parse(name) for name in output.attributes.get("name", "").split(",") if name)


def flag(output: OutputRequest, name: str, *, default: bool) -> bool:
    """A boolean attribute."""
    return _is_true(output.attributes[name]) if name in output.attributes else default


def _is_true(text: str) -> bool:
    return text.lower() in ("1", "t", "true", "")
