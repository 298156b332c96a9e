"""Filters of images. What is expected is what Docker 28.5.2 answered for images like these."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tare.engine.image_filters import select, select_for_prune
from tare.errors import InvalidArgument, NotFound
from tare.model import Digest, Reference
from tare.oci.image import ExecutionConfig, ImageConfig
from tare.store.images import Image

NOW = 1_700_000_000.0


def image(name: str, created: str | None, labels: str, *more: str) -> Image:
    """An image ``name`` with the labels whose letters are given; it came here an hour ago."""
    config = ImageConfig(
        architecture="amd64",
        os="linux",
        created=created,
        config=ExecutionConfig(labels=dict.fromkeys(labels, "1") or None),
    )
    names = [one for one in (name, *more) if not one.startswith("-")]
    return Image(
        id=Digest.of(name.encode()),
        config=config,
        tags=tuple(Reference.parse(one) for one in names),
        size=1,
        created=NOW - 3600,
    )


A = image("a:1", "2020-01-01T00:00:00Z", "oa", "deep/er/a:1")
B = image("b:1", "2021-01-01T01:00:00.000000000+01:00", "ob")
AB = image("ab:1", "2022-01-01T00:00:00.5Z", "oab")
TIMELESS = image("n:1", None, "o")
NAMELESS = image("-", "2023-06-01T00:00:00Z", "")
ALL = [NAMELESS, AB, B, A, TIMELESS]


def listed(**filters: list[str]) -> str:
    return " ".join(next((one.familiar() for one in tags), "-") for _, tags in select(ALL, filters, NOW))


def pruned(**filters: list[str]) -> str:
    chosen = select_for_prune(ALL, {"dangling": ["false"], **filters}, NOW)
    return " ".join(one.tags[0].familiar() if one.tags else "-" for one in chosen)


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        ({}, "- ab:1 b:1 a:1 n:1"),
        ({"before": ["b:1"]}, "a:1"),
        ({"before": ["b:1", "a:1"]}, ""),
        ({"before": ["n:1"]}, "- ab:1 b:1 a:1 n:1"),
        ({"before": []}, "- ab:1 b:1 a:1 n:1"),
        ({"since": ["b:1"]}, "- ab:1"),
        ({"since": ["a:1", "b:1"]}, "- ab:1"),
        ({"since": ["n:1"]}, "- ab:1 b:1 a:1 n:1"),
        ({"since": [A.id.hex[:8]]}, "- ab:1 b:1"),
        ({"since": [str(A.id)[:20]]}, "- ab:1 b:1"),
        ({"until": ["2021-06-01"]}, "b:1 a:1"),
        ({"until": ["2021-01-01T00:00:00Z"]}, "a:1"),
        ({"until": ["1609459200"]}, "a:1"),
        ({"until": ["24h"]}, "- ab:1 b:1 a:1"),
        ({"until": ["2021-06-01", "2020-06-01"]}, "a:1"),
        ({"until": ["2021-06-01"], "before": ["b:1"]}, "a:1"),
        ({"label": ["a", "b"]}, "ab:1"),
        ({"label": ["a=1", "o=1"]}, "ab:1 a:1"),
        ({"label": ["a=2"]}, ""),
        ({"label": ["a="]}, ""),
        ({"label": [""]}, ""),
        ({"dangling": ["true"]}, "-"),
        ({"dangling": ["1", "true"]}, "-"),
        ({"dangling": ["false"]}, "ab:1 b:1 a:1 n:1"),
        ({"reference": ["a*"]}, "ab:1 a:1"),
        ({"reference": ["**"]}, "ab:1 b:1 a:1 n:1"),
        ({"reference": ["deep/*"]}, ""),
        ({"reference": ["deep/*/*"]}, "deep/er/a:1"),
        ({"reference": ["deep/er/a:*"]}, "deep/er/a:1"),
        ({"reference": ["docker.io/library/a"]}, ""),
        ({"reference": ["[^a]"]}, "b:1 n:1"),
        ({"reference": ["a", "b:1"]}, "b:1 a:1"),
        ({"reference": [r"\a"]}, "a:1"),
        ({"reference": ["a"], "dangling": ["true"]}, ""),
    ],
)
def test_listing(filters: dict[str, list[str]], names: str) -> None:
    assert listed(**filters) == names


@pytest.mark.parametrize(
    ("filters", "words"),
    [
        ({"label!": ["a"]}, "invalid filter 'label!'"),
        ({"foo": ["x"]}, "invalid filter 'foo'"),
        ({"dangling": ["maybe"]}, r"invalid filter 'dangling=\[maybe\]'"),
        ({"dangling": ["TRUE"]}, r"invalid filter 'dangling=\[TRUE\]'"),
        ({"dangling": ["true", "false"]}, r"invalid filter 'dangling=\[false true\]'"),
        ({"dangling": []}, "invalid filter 'dangling'$"),
        ({"until": ["bad"]}, 'failed to parse value as time or duration: "bad"'),
        ({"until": [""]}, 'failed to parse value as time or duration: ""'),
        ({"reference": ["[bad"]}, "syntax error in pattern"),
        ({"since": [""]}, "invalid reference format"),
        ({"since": ["IMAGE UPPER"]}, "invalid reference format"),
    ],
)
def test_listing_refuses(filters: dict[str, list[str]], words: str) -> None:
    with pytest.raises(InvalidArgument, match=words):
        select(ALL, filters, NOW)


@pytest.mark.parametrize("name", ["before", "since"])
def test_an_image_that_is_not_there_bounds_nothing(name: str) -> None:
    with pytest.raises(NotFound, match="No such image: nothing:latest"):
        select(ALL, {name: ["nothing"]}, NOW)


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        ({}, "- ab:1 b:1 a:1 n:1"),
        ({"dangling": ["true"]}, "-"),
        ({"dangling": ["true"], "label": ["o"]}, ""),
        ({"until": ["2019-01-01"]}, ""),
        ({"until": ["2020-01-01T00:00:00Z"]}, "a:1"),
        ({"until": ["24h"]}, "- ab:1 b:1 a:1"),
        ({"label": ["o"], "label!": ["a"]}, "b:1 n:1"),
        ({"label": ["o"], "label!": ["a=2"]}, "ab:1 b:1 a:1 n:1"),
        ({"label": ["o"], "label!": ["a", "b"]}, "b:1 a:1 n:1"),
        ({"label": ["o"], "label!": ["a"], "until": ["2021-06-01"]}, "b:1"),
    ],
)
def test_pruning(filters: dict[str, list[str]], names: str) -> None:
    assert pruned(**filters) == names


def test_without_filters_only_what_has_no_name_is_pruned() -> None:
    assert select_for_prune(ALL, {}, NOW) == [NAMELESS]


@pytest.mark.parametrize(
    ("filters", "words"),
    [
        ({"foo": ["x"]}, "invalid filter 'foo'"),
        ({"reference": ["x"]}, "invalid filter 'reference'"),
        ({"before": ["a:1"]}, "invalid filter 'before'"),
        ({"until": ["bad"]}, 'failed to parse value as time or duration: "bad"'),
        ({"until": ["1h", "2h"]}, "more than one until filter specified"),
        ({"dangling": ["maybe"]}, r"invalid filter 'dangling=\[maybe\]'"),
    ],
)
def test_pruning_refuses(filters: dict[str, list[str]], words: str) -> None:
    with pytest.raises(InvalidArgument, match=words):
        select_for_prune(ALL, filters, NOW)


@pytest.mark.parametrize("created", ["", "0001-01-01T00:00:00Z", "yesterday", "2020-13-45T00:00:00Z"])
def test_a_time_that_is_none_is_in_no_range(created: str) -> None:
    odd = image("odd:1", created, "")
    assert select_for_prune([odd], {"dangling": ["false"], "until": ["1h"]}, NOW) == []
    assert select([odd], {"until": ["1h"]}, NOW) == []


def test_images_that_only_a_registry_knows_are_both_dangling_and_not() -> None:
    digest = f"reg.test/kept@{Digest.of(b'manifest')}"
    kept = replace(NAMELESS, digests=(Reference.parse(digest),))

    def names(**filters: list[str]) -> list[str]:
        return [one.familiar() for _, some in select([kept, A], filters, NOW) for one in some]

    assert names(dangling=["true"]) == [digest]
    assert names(dangling=["false"]) == [digest, "a:1", "deep/er/a:1"]
    assert names(reference=["reg.test/k*"]) == [digest]
    assert names(before=[digest]) == ["a:1", "deep/er/a:1"]
    assert select_for_prune([kept, A], {}, NOW) == [kept]
