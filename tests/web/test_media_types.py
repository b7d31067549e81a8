"""Media type, charset and content coding of request bodies, and parsing of forms."""

import gzip
import json
import time
import zlib
from collections.abc import Callable

import pytest
from starlette.requests import Request

from authapi.errors import UnsupportedMediaType
from authapi.testing import PASSWORD, Client
from authapi.web.media_types import JSON, require_media_type
from tests.web.responses import problem

FORM = "application/x-www-form-urlencoded"
COMPRESSED: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": bytes,
    "zstd": bytes,
    "compress": bytes,
    "aes128gcm": bytes,
    "GZIP": gzip.compress,
    "identity, gzip": gzip.compress,
    "gzip, identity": gzip.compress,
    "nonsense": bytes,
    "\xff": bytes,
}
LOGIN = json.dumps({"email": "alice@example.com", "password": PASSWORD}).encode()
REFRESH = b"grant_type=refresh_token&refresh_token=art_x"


@pytest.fixture
async def alice(api: Client) -> None:
    await api.create_user("alice@example.com")


@pytest.mark.parametrize("coding", COMPRESSED)
@pytest.mark.parametrize(
    ("path", "kind", "body"),
    [
        ("/login", "application/json", LOGIN),
        ("/register", "application/json", LOGIN),
        ("/token", FORM, REFRESH),
        ("/token/revoke", FORM, b"token=x"),
    ],
)
async def test_content_coding_is_refused_with_accept_encoding(
    api: Client, path: str, kind: str, body: bytes, coding: str
) -> None:
    headers = {b"content-type": kind.encode(), b"content-encoding": coding.encode("latin-1")}
    answer = await api.post(path, content=COMPRESSED[coding](body), headers=headers)
    assert answer.status_code == 415
    assert answer.headers["accept-encoding"] == "identity"
    assert answer.json()["code"] == "unsupported_media_type"
    assert "content coding" in answer.json()["detail"]


async def test_content_codings_in_several_lines_are_refused(api: Client) -> None:
    headers = [("content-type", "application/json"), ("content-encoding", "identity")]
    answer = await api.post("/login", content=b"{}", headers=[*headers, ("content-encoding", "br")])
    assert (answer.status_code, answer.headers["accept-encoding"]) == (415, "identity")


@pytest.mark.parametrize("coding", ["identity", "IDENTITY", "", "identity, identity", ", identity"])
async def test_identity_coding_is_accepted(api: Client, alice: None, coding: str) -> None:
    headers = {"content-type": "application/json", "content-encoding": coding}
    assert (await api.post("/login", content=LOGIN, headers=headers)).status_code == 200


@pytest.mark.parametrize(
    "kind", [FORM, "text/plain", "application/json; charset=latin-1", "application/json; x"]
)
async def test_accept_encoding_is_absent_for_other_reasons(api: Client, kind: str) -> None:
    answer = await api.post("/login", content=LOGIN, headers={"content-type": kind})
    problem(answer, 415, "unsupported_media_type")
    assert "accept-encoding" not in answer.headers


async def test_unsupported_charset_is_named_in_the_detail(api: Client) -> None:
    for path, kind in (("/login", "application/json"), ("/token", FORM)):
        headers = {"content-type": f"{kind}; charset=iso-8859-1"}
        answer = await api.post(path, content=LOGIN, headers=headers)
        assert (answer.status_code, answer.json()["detail"]) == (415, "The charset must be utf-8")


@pytest.mark.parametrize(
    "parameters",
    [
        *(";charset=utf8", "; charset=UTF-8", '; charset="utf-8"', '; charset="UTF8"', ";"),
        *("; CharSet=Utf-8", "; version=1", "; charset=utf-8; profile=x", ' ; a="b;c\\"d" ;'),
    ],
)
@pytest.mark.parametrize("kind", ["application/json", FORM])
async def test_content_type_parameters_are_parsed(
    api: Client, alice: None, kind: str, parameters: str
) -> None:
    for written in (kind, kind.upper()):
        headers = {"content-type": f"{written}{parameters}"}
        if kind == FORM:
            answer = await api.post("/token", content=REFRESH, headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (400, "invalid_grant")
        else:
            assert (await api.post("/login", content=LOGIN, headers=headers)).status_code == 200


@pytest.mark.parametrize("filler", [" ", ";", "; ", ' ;a="', "\t ; \t", '\\"', "; a=b", "a"])
def test_long_content_type_is_parsed_in_linear_time(filler: str) -> None:
    written = "application/json;" + filler * (30_000 // len(filler)) + "("
    headers = [(b"content-type", written.encode())]
    began = time.thread_time()
    with pytest.raises(UnsupportedMediaType):
        require_media_type(Request({"type": "http", "headers": headers}), JSON)
    assert time.thread_time() - began < 0.5


@pytest.mark.parametrize(
    "form",
    [
        "grant_type=password&{}&",
        "grant_type=password&{}&&&",
        "&grant_type=password&&{}",
        "grant_type=password&=&{}&=",
        "grant_type=password&{}&scope",
        "grant_type=password&{}&scope=",
        "grant_type=password&{}&=nameless",
        "grant_type=password&{}&other",
        "grant_type=password&{}" + "&" * 500,
    ],
)
async def test_forms_of_browsers_and_scripts_are_accepted(
    api: Client, alice: None, form: str
) -> None:
    body = form.format(f"username=alice%40example.com&password={PASSWORD.replace(' ', '+')}")
    answer = await api.post("/token", content=body, headers={"content-type": FORM})
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    "form",
    [
        "grant_type=refresh_token&grant_type=refresh_token&refresh_token=art_x",
        "grant_type=refresh_token&refresh_token=art_x&refresh_token=art_x&",
        "grant_type=refresh_token&refresh_token=art_x&refresh_token",
        "grant_type=refresh_token&refresh_token=art_x&scope=&scope=",
        "grant_type=refresh_token&refresh_token=art_x&x=1&%78=2",
        "grant_type=refresh_token&refresh_token=art_x&=1&=2",
        "grant_type=refresh_token&refresh_token=art_x" + "".join(f"&a{n}" for n in range(60)),
        "&",
        "=",
        "grant_type",
    ],
)
async def test_ambiguous_and_malformed_forms_are_refused(api: Client, form: str) -> None:
    answer = await api.post("/token", content=form, headers={"content-type": FORM})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
