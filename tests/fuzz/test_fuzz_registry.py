"""What registries send, made up: nothing but errors of ours comes of it, and never for long."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from tare.errors import TareError
from tare.model import Reference
from tare.registry.challenges import parse_challenges
from tare.registry.manifests import ACCEPTED, RawManifest, effective_type, parse
from tare.registry.refusals import read_refusal

NAME = Reference.parse("registry.test/app:one")
HEADER = st.text(alphabet=st.sampled_from('Basic Bearer=,"\\\t realm~+/x'), max_size=60)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from(ACCEPTED),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
FIELDS = st.sampled_from(
    ["schemaVersion", "mediaType", "config", "layers", "manifests", "fsLayers", "digest", "size", "platform", "errors"]
)
DOCUMENTS = st.dictionaries(FIELDS, VALUES | st.dictionaries(FIELDS, VALUES, max_size=4), max_size=5)
BODIES = DOCUMENTS.map(lambda document: json.dumps(document).encode()) | st.binary(max_size=40)


@settings(max_examples=60)
@given(HEADER | st.text(max_size=40))
def test_challenges(header: str) -> None:
    for challenge in parse_challenges([header]):
        assert challenge.scheme
        assert challenge.scheme == challenge.scheme.lower()


@settings(max_examples=60)
@given(BODIES, st.sampled_from(ACCEPTED))
def test_manifests(data: bytes, media_type: str) -> None:
    effective_type("application/json", data)
    try:
        parse(RawManifest.of(media_type, data))
    except TareError as error:
        assert error.code


@settings(max_examples=60)
@given(st.integers(400, 599), BODIES)
def test_refusals(status: int, body: bytes) -> None:
    error = read_refusal(status, body, []).pull_error(NAME)
    assert error.message
    assert error.message.isprintable()
