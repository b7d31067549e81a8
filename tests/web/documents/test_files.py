"""Files that browsers keep: the negotiation of their coding, their versions and entity tags."""

import gzip
from random import Random

import pytest
from starlette.requests import Request

from authapi.web.documents.files import Asset, file_response, preferred_coding

ALL = ("identity", "gzip", "br")
TEXT = b"body { color: black }\n" * 100
CSS = "text/css; charset=utf-8"


@pytest.mark.parametrize(
    ("header", "offered", "coding"),
    [
        (None, ALL, "identity"),
        ("", ALL, "identity"),
        ("gzip, deflate, br, zstd", ALL, "br"),
        ("gzip, deflate, br, zstd", ("identity", "gzip"), "gzip"),
        ("gzip", ALL, "gzip"),
        ("GZIP", ALL, "gzip"),
        ("x-gzip", ALL, "gzip"),
        ("*", ALL, "br"),
        ("*;q=0.5, br;q=0", ALL, "gzip"),
        ("br;q=0.5, gzip", ALL, "gzip"),
        ("br;q=0.5 , gzip;q=0.5", ALL, "br"),
        ("br ; q=0.5,gzip;Q=1.000", ALL, "gzip"),
        ("gzip;q=0, br;q=0.000", ALL, "identity"),
        # Without a weight of its own, identity is acceptable, and any coding is preferred to it.
        ("gzip;q=0.001", ALL, "gzip"),
        ("gzip;q=0.5, identity", ALL, "identity"),
        ("gzip;q=0.5, identity;q=0.5", ALL, "gzip"),
        ("identity;q=0", ALL, "identity"),
        ("identity;q=0, *", ALL, "br"),
        ("deflate, zstd", ALL, "identity"),
        # What is not valid is ignored.
        ("gzip;q=2, br;q=abc", ALL, "identity"),
        ("gzip;q=0.1234, br;q=-1, ;, =", ALL, "identity"),
        ("br;level=11, gzip", ALL, "gzip"),
        (",,gzip,,", ALL, "gzip"),
        ("gzip" * 10_000, ALL, "identity"),
    ],
)
def test_the_preferred_coding(header: str | None, offered: tuple[str, ...], coding: str) -> None:
    assert preferred_coding(header, offered) == coding


def request_with(query: str = "", **headers: str) -> Request:
    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": "GET", "query_string": query.encode(), "headers": pairs}
    return Request(scope)


def test_each_coding_has_its_own_entity_tag() -> None:
    file = Asset(TEXT, CSS, brotli=b"compressed")
    seen = set()
    for coding, body in (("identity", TEXT), ("gzip", None), ("br", b"compressed")):
        response = file_response(request_with(accept_encoding=coding), file)
        assert response.headers.get("content-encoding", "identity") == coding
        assert response.headers["vary"] == "Accept-Encoding"
        assert response.headers["content-type"] == CSS
        assert response.headers["content-length"] == str(len(response.body))
        if body is None:
            assert gzip.decompress(bytes(response.body)) == TEXT
        else:
            assert response.body == body
        etag = response.headers["etag"]
        seen.add(etag)
        same = file_response(request_with(accept_encoding=coding, if_none_match=etag), file)
        assert (same.status_code, same.body) == (304, b"")
        assert same.headers["vary"] == "Accept-Encoding"
        assert same.headers["etag"] == etag
        assert "content-encoding" not in same.headers
    assert len(seen) == 3
    other = file.representations["br"].etag
    answer = file_response(request_with(accept_encoding="gzip", if_none_match=other), file)
    assert answer.status_code == 200, "the tag of another coding"


def test_the_same_content_is_compressed_to_the_same_bytes() -> None:
    one, other = (Asset.of(TEXT, CSS).representations["gzip"] for _ in range(2))
    assert one == other


@pytest.mark.parametrize(
    ("body", "media_type"),
    [(b"a" * 400, CSS), (TEXT, "image/png"), (Random(1).randbytes(600), "text/plain")],
    ids=["small", "image", "incompressible"],
)
def test_what_compression_does_not_improve_has_one_form(body: bytes, media_type: str) -> None:
    response = file_response(request_with(accept_encoding="gzip, br"), Asset.of(body, media_type))
    assert response.body == body
    assert "content-encoding" not in response.headers
    assert "vary" not in response.headers


def test_only_the_version_of_the_content_may_be_kept() -> None:
    file = Asset.of(TEXT, CSS)
    kept = file_response(request_with(f"v={file.version}"), file)
    assert kept.headers["cache-control"] == "public, max-age=31536000, immutable"
    for query in ("", "v=", "v=0123456789ab", f"w={file.version}"):
        asked = file_response(request_with(query), file)
        assert asked.headers["cache-control"] == "no-cache"
    assert Asset.of(TEXT + b" ", CSS).version != file.version
