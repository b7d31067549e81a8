"""If-Match and If-None-Match on routes, in one header line and several."""

from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from authapi.testing import Client
from tests.web.logins import sign_in
from tests.web.responses import problem

Ask = Callable[..., Awaitable[httpx.Response]]


@pytest.fixture
async def ask(api: Client) -> Ask:
    """Sends requests of a superuser with header lines that may repeat a name."""
    root = await api.create_user(is_superuser=True)
    login = await sign_in(api.services, root)

    async def asked(
        method: str, path: str, *lines: tuple[str, str], **options: Any
    ) -> httpx.Response:
        pairs = [*login.items(), *lines]
        raw = [(name.encode(), value.encode("latin-1")) for name, value in pairs]
        return await api.request(method, path, headers=raw, **options)

    return asked


@pytest.fixture(params=["/me", "/admin/users"])
async def path(request: pytest.FixtureRequest, api: Client) -> str:
    """The path of a resource that can be changed."""
    if request.param == "/me":
        return "/me"
    return f"/admin/users/{(await api.create_user()).id}"


@pytest.mark.parametrize(
    ("lines", "holds"),
    [
        (['"x"', "{}"], True),
        (["{}", '"x"'], True),
        (['"x"', "", 'W/"y"', '"a,b", {}'], True),
        (['"x", "y"', ", {} ,"], True),
        (["*"], True),
        (['"x"', '"y"'], False),
        (['"x"', "W/{}"], False),
        (["*", '"x"'], False),
        (['"a, {}', '"'], False),
        ([""], False),
    ],
)
async def test_if_match_allows_a_change_if_one_tag_matches(
    ask: Ask, path: str, lines: list[str], holds: bool
) -> None:
    etag = (await ask("GET", path)).headers["etag"]
    conditions = [("If-Match", line.replace("{}", etag)) for line in lines]
    for body in ({"name": "Another"}, {}):
        answer = await ask("PATCH", path, *conditions, json=body)
        if not holds:
            problem(answer, 412, "precondition_failed")
            assert (await ask("GET", path)).headers["etag"] == etag
        else:
            assert answer.status_code == 200
            new = answer.headers["etag"]
            conditions = [("if-match", line.replace("{}", new)) for line in lines]


@pytest.mark.parametrize(
    ("lines", "holds"),
    [
        (['"x"', "{}"], True),
        (["{}", '"x"'], True),
        (['"x"', "W/{}"], True),
        (['"a,b"', ",,{}"], True),
        (["*"], True),
        (['"x"', '"y"'], False),
        (["*", '"y"'], False),
        (["x", "{}"], False),
    ],
)
async def test_if_none_match_returns_304_if_one_tag_matches(
    ask: Ask, path: str, lines: list[str], holds: bool
) -> None:
    for where in (path, "/.well-known/jwks.json", "/.well-known/oauth-authorization-server"):
        etag = (await ask("GET", where)).headers["etag"]
        conditions = [("If-None-Match", line.replace("{}", etag)) for line in lines]
        answer = await ask("GET", where, *conditions)
        assert answer.status_code == (304 if holds else 200), where
        assert answer.headers["etag"] == etag


async def test_several_accept_language_lines_form_one_list(api: Client) -> None:
    for lines, language in (
        (["en;q=0.1", "ko"], "ko"),
        (["ko;q=0.5", "en;q=0.9"], "en"),
        (["fr", "ko"], "ko"),
        (["ko", "en"], "ko"),
    ):
        raw = [(b"accept-language", line.encode()) for line in lines]
        answer = await api.get("/account/forgot", headers=raw)
        assert answer.headers["content-language"] == language, lines


@pytest.mark.parametrize("name", ["Sec-Fetch-Site", "Sec-Fetch-Dest"])
async def test_repeated_fetch_metadata_headers_are_refused(ask: Ask, name: str) -> None:
    good, bad = {
        "Sec-Fetch-Site": ("same-origin", "cross-site"),
        "Sec-Fetch-Dest": ("empty", "script"),
    }[name]
    code = {"Sec-Fetch-Site": "foreign_origin", "Sec-Fetch-Dest": "wrong_destination"}[name]
    assert (await ask("PATCH", "/me", (name, good), json={})).status_code == 200
    for first, second in ((good, bad), (bad, good), (good, good)):
        answer = await ask("PATCH", "/me", (name, first), (name, second), json={})
        problem(answer, 403, code)
