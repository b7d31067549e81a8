"""docs/interop.md matches these tests."""

import os

import pytest

from authapi.crypto.jwk import VERIFIED_ALGORITHMS
from tests.interop import issuers, test_fastmcp, test_node, test_oidc_provider, test_python
from tests.interop.table import COLUMNS, DOCUMENT, document, does, versions

# Before the fixture that removes all AUTHAPI_* variables.
_WRITE = os.environ.get("AUTHAPI_WRITE_DOCS") == "1"


def test_document_matches_the_tests() -> None:
    assert test_fastmcp.__doc__
    assert test_node.__doc__
    assert test_oidc_provider.__doc__
    assert test_python.__doc__, "imported for what their tests are marked with"
    if _WRITE:
        DOCUMENT.write_text(document(), encoding="utf-8")
    text = DOCUMENT.read_text(encoding="utf-8")
    assert text == document(), "write it anew: AUTHAPI_WRITE_DOCS=1"
    assert len(versions()) == 9
    for column in COLUMNS:
        assert column in text


def test_unknown_column_is_rejected() -> None:
    with pytest.raises(ValueError, match="everything"):
        does("Authlib", "everything")


def test_unknown_algorithm_is_rejected() -> None:
    with pytest.raises(ValueError, match="HS256"):
        issuers.verifies("oidc-provider (Node.js)", "ES256", "HS256")
    assert issuers.ALGORITHMS == VERIFIED_ALGORITHMS
