"""Fuzzing of tokens: every change gives valid claims or TokenError."""

import json
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from authapi.errors import TokenError
from tests.crypto.forgery import AUDIENCE, CLAIMS, HEADER, ISSUER, NOW, b64, forge, refused, verify

pytestmark = pytest.mark.slow

TOKEN = forge()
OTHER = forge(claims={**CLAIMS, "sub": "another user", "jti": "two"})
many = settings(max_examples=500, derandomize=True, deadline=None)

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from([*HEADER.values(), *CLAIMS.values(), NOW - 1, "none", "HS256"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)


def holds(token: str) -> None:
    """Asserts that `token` is rejected, or that its claims are valid."""
    try:
        claims = verify(token)
    except TokenError:
        return
    assert isinstance(claims, Mapping)
    assert claims["iss"] == ISSUER
    assert AUDIENCE in claims["aud"]
    assert claims["exp"] > NOW
    assert claims["iat"] <= NOW + 30
    for name in ("sub", "jti"):
        assert isinstance(claims[name], str)
        assert claims[name]


@many
@given(
    st.lists(
        st.tuples(st.integers(0, len(TOKEN) - 1), st.characters(max_codepoint=0x2FF)),
        min_size=1,
        max_size=4,
    )
)
def test_changed_characters_are_rejected(changes: list[tuple[int, str]]) -> None:
    text = list(TOKEN)
    for position, character in changes:
        text[position] = character
    changed = "".join(text)
    if changed != TOKEN:
        refused(changed)


@many
@given(st.integers(0, len(TOKEN)), st.integers(0, len(TOKEN)), st.text(max_size=6))
def test_truncated_and_extended_tokens_are_rejected(start: int, end: int, filling: str) -> None:
    changed = TOKEN[:start] + filling + TOKEN[end:]
    if changed != TOKEN:
        refused(changed)


@many
@given(
    st.text(max_size=60)
    | st.text("aAbB09-_=.", max_size=60)
    | st.from_regex(r"[\w.-]*", fullmatch=True)
)
def test_arbitrary_text_is_rejected(text: str) -> None:
    refused(text)


@many
@given(
    st.lists(
        st.sampled_from(TOKEN.split(".") + OTHER.split(".") + ["", "AA"]), min_size=0, max_size=5
    )
)
def test_reordered_segments_are_rejected(segments: list[str]) -> None:
    token = ".".join(segments)
    if token not in (TOKEN, OTHER):
        refused(token)


@many
@given(st.data())
def test_changed_bytes_with_a_valid_signature(data: st.DataObject) -> None:
    # Signed with the key, so that the checks after the signature are reached.
    parts = [bytearray(json.dumps(part).encode()) for part in (HEADER, CLAIMS)]
    for part in parts:
        for _ in range(data.draw(st.integers(0, 2))):
            part[data.draw(st.integers(0, len(part) - 1))] = data.draw(st.integers(0, 255))
    holds(forge(*map(bytes, parts)))


@many
@given(
    st.dictionaries(st.sampled_from([*HEADER, "crit", "jwk", "x"]), JSON, max_size=2),
    st.dictionaries(st.sampled_from([*CLAIMS, "nbf", "x"]), JSON, max_size=3),
    st.sets(st.sampled_from([*HEADER, *CLAIMS]), max_size=1),
)
def test_changed_members_with_a_valid_signature(
    header: dict[str, object], claims: dict[str, object], missing: set[str]
) -> None:
    parts = [{**HEADER, **header}, {**CLAIMS, **claims}]
    for part in parts:
        for name in missing:
            part.pop(name, None)
    holds(forge(*parts))


@many
@given(JSON | st.binary(max_size=60), JSON | st.binary(max_size=60))
def test_arbitrary_parts_are_rejected(header: object, claims: object) -> None:
    for token in (forge(header, CLAIMS), forge(HEADER, claims), forge(header, claims)):
        holds(token)


@many
@given(st.binary(max_size=100), st.booleans())
def test_arbitrary_signature_is_rejected(signature: bytes, padded: bool) -> None:
    refused(f"{TOKEN.rpartition('.')[0]}.{b64(signature)}{'=' * padded}")
