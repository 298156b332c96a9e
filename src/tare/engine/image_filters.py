"""Filters of ``images`` and of ``image prune`` with Docker's meaning.

An image's age is that of its configuration, not how long it has been here. One whose configuration has no time is in no
range of time, and a range that such an image bounds is open.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from tare.build.dockerfile.globs import PathPattern
from tare.engine.clock import to_nanoseconds
from tare.engine.prune_filters import check_names, has_labels, labels_fit, until_limit, until_moment
from tare.engine.requests import Filters
from tare.errors import InvalidArgument, NotFound
from tare.model import Digest, Reference
from tare.store.images import Image

_LISTED = ("dangling", "label", "reference", "before", "since", "until")
_PRUNED = ("dangling", "label", "label!", "until")
_ESCAPED_OR_STARS = re.compile(r"(\\.)|\*+", re.DOTALL)


def select(
    images: Sequence[Image],
    filters: Filters,
    now: float,
    *,
    everything: bool = False,
    parents: Collection[Digest] = (),
) -> list[tuple[Image, list[Reference]]]:
    """The images that pass every filter, the youngest first, with the names and digests that the listing shows.

    Of ``parents``, from which others were committed, only those with a name are listed, unless ``everything`` is; they
    are never dangling.


    ``now`` is in seconds since the epoch. ``reference`` takes any of its patterns, ``label`` must fit in all values,
    times are narrowed by each. An image that only registries know, by its digest, is listed both as dangling and as
    not dangling, as in Docker. Raises InvalidArgument, and NotFound for an image in ``before`` or ``since``.
    """
    check_names(filters, _LISTED)
    dangling = _dangling(filters)
    first, last = _range(images, filters, now)
    patterns = [_pattern(text) for text in filters.get("reference") or []]
    chosen = []
    for image in images:
        moment = _created(image)
        names = [
            name
            for name in (*image.tags, *image.digests)
            if not patterns or any(_names(pattern, name) for pattern in patterns)
        ]
        inner = image.id in parents and not (image.tags or image.digests)
        if (
            _fits(image, dangling=dangling)
            and not (inner and (dangling or not everything))
            and (last is None or (moment is not None and moment < last))
            and (first is None or (moment is not None and moment > first))
            and has_labels(image.config.config.labels or {}, filters.get("label") or [])
            and (names or not patterns)
        ):
            chosen.append((image, names))
    return sorted(chosen, key=lambda one: _created(one[0]) or 0.0, reverse=True)


def select_for_prune(
    images: Sequence[Image], filters: Filters, now: float, parents: Collection[Digest] = ()
) -> list[Image]:
    """The images that ``prune`` may remove as far as its filters go: without a name, unless ``dangling`` is false.

    Of ``parents``, from which others were committed, those without a name stay.

    ``until``: made then or before. ``label`` must fit in all values; ``label!`` keeps what has all of its values, as in
    Docker. Raises InvalidArgument.
    """
    check_names(filters, _PRUNED)
    dangling = _dangling(filters)
    until = until_limit(filters, now)
    chosen = []
    for image in images:
        moment = _created(image)
        if (
            (dangling is False or not image.tags)
            and not (not image.tags and image.id in parents)
            and (until is None or (moment is not None and moment <= until))
            and labels_fit(image.config.config.labels or {}, filters)
        ):
            chosen.append(image)
    return chosen


def _fits(image: Image, *, dangling: bool | None) -> bool:
    if dangling is None:
        return True
    return not image.tags if dangling else bool(image.tags or image.digests)


def _dangling(filters: Filters) -> bool | None:
    """The flag, spelled exactly; None where it is not given. Raises InvalidArgument."""
    values = filters.get("dangling")
    if values is None:
        return None
    yes, no = any(value in ("1", "true") for value in values), any(value in ("0", "false") for value in values)
    if yes is no:
        told = f"=[{' '.join(sorted(values))}]" if values else ""
        raise InvalidArgument(f"invalid filter 'dangling{told}'")
    return yes


def _range(images: Sequence[Image], filters: Filters, now: float) -> tuple[float | None, float | None]:
    """The times that images must be younger and older than."""
    since = [_created(_find(images, name)) for name in filters.get("since") or []]
    before = [_created(_find(images, name)) for name in filters.get("before") or []]
    before += [until_moment(text, now) for text in filters.get("until") or []]
    first = max((moment for moment in since if moment is not None), default=None)
    return first, min((moment for moment in before if moment is not None), default=None)


def _find(images: Sequence[Image], name: str) -> Image:
    """The image with this name or start of its identifier; a name wins."""
    digits = name.removeprefix("sha256:")
    try:
        wanted = Reference.parse(name)
    except InvalidArgument:
        if not re.fullmatch(r"[0-9a-f]+", digits):
            raise
        wanted = None
    for image in images:
        if wanted is not None and (wanted in image.tags or replace(wanted, tag="") in image.digests):
            return image
    for image in images:
        if digits and image.id.hex.startswith(digits):
            return image
    raise NotFound(f"No such image: {wanted.familiar() if wanted is not None else name}")


def _pattern(text: str) -> PathPattern:
    """Go's ``path.Match``, where several stars are one."""
    try:
        return PathPattern.parse(_ESCAPED_OR_STARS.sub(lambda match: match[1] or "*", text))
    except InvalidArgument as error:
        raise InvalidArgument("syntax error in pattern", hint=f"{text!r}: {error.hint}") from error


def _names(pattern: PathPattern, tag: Reference) -> bool:
    return pattern.match(tag.familiar()) or pattern.match(tag.familiar_name)


def _created(image: Image) -> float | None:
    """When the configuration says that it was made, in seconds since the epoch."""
    text = image.config.created or ""
    if not text or text.startswith("0001-"):
        return None
    try:
        return to_nanoseconds(text) / 1_000_000_000
    except ValueError:
        return None  # whoever wrote the configuration may have put anything there


def name_filter(patterns: Sequence[str]) -> Callable[[Reference], bool]:
    """Whether a name fits any of the patterns of filter ``reference``; all do where there are none."""
    parsed = [_pattern(text) for text in patterns]
    return lambda name: not parsed or any(_names(pattern, name) for pattern in parsed)
