"""Hostile input of pages, and what every answer to it must be.

`page_of` parses each answer strictly, so a text that is not escaped fails there.
"""

from collections.abc import Iterator, Mapping
from urllib.parse import quote_plus, urljoin

import httpx

from tests.web.asgi import RawHeaders, ask
from tests.web.pages.anatomy import page_of
from tests.web.pages.page_routes import page_paths

OWN = "http://127.0.0.1:8000"
FORM = (b"content-type", b"application/x-www-form-urlencoded")
BROWSER = [(b"accept", b"text/html"), (b"origin", OWN.encode())]
SECRET = "pAsSwOrD-7331"
PASSWORDS = ("password", "new_password", "current_password", "code", "recovery_code")
FIELDS = (
    *PASSWORDS,
    *("email", "name", "username", "token", "next", "tries", "remember", "id", "form", "expires"),
    *("date", "locale", "version", "credential", "switch", "scope reports:read", "page"),
)
ACTIONS: Mapping[str, tuple[str, ...]] = {
    "/account": ("name", "username", "language", "email", "cancel", "confirm"),
    "/account/confirm": ("again", "without_password", "go"),
    "/account/devices": ("others",),
    "/account/security/app": ("confirm",),
    "/account/security/password": ("mail",),
    "/account/sign-in/enrol": ("confirm",),
}
MARKUP = "\"'><img src=x onerror=alert(1)><script>alert(1)</script></textarea></title>&amp;&lt"
TEXTS: Mapping[str, str] = {
    "markup": MARKUP,
    "closing tags": "</option></select></form></main></body></html>",
    "attribute": '" autofocus onfocus="alert(1)" x="',
    "template": "{{ 7 * 7 }}{% raw %}{{ config }}{# #}${7*7}<%= 7 %>",
    "placeholders": "%(name)s %s %d %% %(min_length)s {0} {name}",
    "new header": "a\r\nSet-Cookie: x=y\r\n\r\n<script>",
    "line separators": "a\u2028b\u2029c\x85d",
    "controls": "\x01\x02\x1b[31m\x7f\x9f",
    "right to left": "\u202emoc.live\u202c\u2066\u200f",
    "combining marks": "a" + "\u0301" * 100,
    "emoji": "👩‍👩‍👧‍👦🏳️‍🌈🦉" * 20,
    "noncharacters": "\ufffe\uffff\ufdd0",
    "other digits": "١٢٣٤٥٦",
    "superscript": "²",
    "long": "x" * 16_384,
    "long markup": "<" * 8_000,
    "spaces": " \t\u00a0\u3000 ",
    "number": "9" * 400,
    "negative": "-1",
    "script address": "javascript:alert(1)",
    "data address": "data:text/html,<script>alert(1)</script>",
    "other host": "//evil.example/\\evil.example",
    "backslashes": "\\\\evil.example\\@127.0.0.1",
    "own address": f"{OWN}@evil.example/",
    "id": "{00000000-0000-7000-8000-000000000000}",
    "id as urn": "urn:uuid:00000000-0000-7000-8000-000000000000",
    "last day": "9999-12-31",
    "first day": "0001-01-01",
    "week": "2026-W53-7",
    "json": '{"id": "\\ud800", "rawId": 1e999, "response": null, "type": []}',
    "deep json": "[" * 8_000,
    "dots": "../../../../etc/passwd",
    "language": "en-" + "x" * 50,
}
"""Texts that a form of this website could carry."""
BODIES: Mapping[str, bytes] = {
    "nothing": b"",
    "separators": b"&&&=&",
    "name alone": b"email",
    "percent": b"email=%",
    "no digits": b"email=%zz",
    "nul": b"email=a%00b&password=%00&token=%00&name=%00&next=%00",
    "raw nul": b"email=a\x00b",
    "nul in a name": b"em%00ail=a",
    "surrogate": b"email=%ed%a0%80&name=%ed%a0%80&password=%ed%bf%bf",
    "overlong": b"email=%c0%80&name=%c0%af",
    "cut off": b"email=%e2%82",
    "not utf-8": b"email=%ff%fe",
    "raw bytes": b"email=\xff\xfe",
    "raw utf-8": "email=ü".encode(),
    "utf-16": "email=a".encode("utf-16"),
    "twice": b"email=a&email=b",
    "twice, action": b"action=name&action=email&name=x",
    "list": b"email[]=a&email[0]=b&email[x]=c",
    "many fields": b"&".join(b"f%d=1" % number for number in range(51)),
    "very many fields": b"&".join(b"f%d=1" % number for number in range(8_000)),
    "long value": b"email=" + b"x" * 16_385,
    "long name": b"x" * 60_000 + b"=1",
    "too long": b"email=" + b"x" * 70_000,
    "json": b'{"email": "a@example.com"}',
    "multipart": b'--x\r\nContent-Disposition: form-data; name="email"\r\n\r\na\r\n--x--',
    "semicolons": b"email=a;password=b",
    "file": b'--x\r\nContent-Disposition: form-data; name="f"; filename="a"\r\n\r\nGIF89a\r\n--x--',
}
"""Bodies that no form of this website sends."""
TYPES = (
    *(b"multipart/form-data; boundary=x", b"multipart/form-data", b"text/plain"),
    *(b"application/json", b"application/x-www-form-urlencoded; charset=utf-16", b"\xff", b""),
)
PARAMETERS = ("next", "done", "lang", "show", "before", "page", "token", "chosen", "v")
QUERIES = (
    *(b"&&=", b"%", b"%zz=%", b"lang=%ff", b"\xff\x00", b"next=%00&done=%00&before=%00&lang=%00"),
    *(b"lang=en&lang=ko", b"done=reset&done=now", b"show=all&show=refused", b"x" * 60_000),
    *(b"&".join([b"lang=ko"] * 5_000), b"before=%ed%a0%80&show=%c0%80", b"page=1e3&page=0x1"),
    *(b"done=now", b"done=in", b"done=up&next=//evil.example", b"token=" + b"x" * 9_000),
)
ALL_ACTIONS = sorted({action for actions in ACTIONS.values() for action in actions})
COOKIE_VALUES = (b"\xff", b'"><script>', b"ko; ko", b"x" * 4_000, b"Ij48c2NyaXB0Pg", b"AAAA")
COOKIES = ("authapi_lang", "authapi-address", "authapi-login", "authapi")


class Pages:
    """The service, and what every answer of its pages must be."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.app = client._transport.app  # type: ignore[attr-defined]  # that of ASGI

    async def send(
        self,
        method: str,
        path: str,
        *,
        headers: RawHeaders = (),
        query: bytes = b"",
        body: bytes = b"",
    ) -> httpx.Response:
        answer = await ask(
            self.app,
            method,
            path.encode(),
            headers=[*BROWSER, *headers],
            query=query,
            body=[body],
        )
        where = f"{method} {path}?{query[:200]!r} {body[:200]!r}"
        assert answer.status_code < 500, where
        for name in ("set-cookie", "location"):
            assert not any("evil" in value for value in answer.headers.get_list(name)), where
        if answer.status_code == 303:
            target = urljoin(f"{OWN}{path}", answer.headers["location"])
            assert target.startswith(f"{OWN}/"), where
        elif answer.headers["content-type"] != "application/json":
            try:
                page_of(answer, limit=1_000_000)
            except AssertionError as error:
                raise AssertionError(where) from error
        assert SECRET not in answer.text, where
        return answer


def encoded(text: str, action: str = "") -> bytes:
    """A form whose fields all have this text."""
    values = {name: f"{text}{SECRET}" if name in PASSWORDS else text for name in FIELDS}
    if action:
        values["action"] = action
    return "&".join(
        f"{quote_plus(name)}={quote_plus(text)}" for name, text in values.items()
    ).encode()


def forms(pages: Pages) -> Iterator[tuple[str, str]]:
    for path in page_paths(pages.app, "POST"):
        for action in ("", *ACTIONS.get(path, ())):
            yield path, action
