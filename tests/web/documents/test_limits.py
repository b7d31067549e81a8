"""429 in the document: exactly where a limit counts requests."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from fastapi import Depends, FastAPI

from authapi import AuthAPI, User, create_app, current_user
from authapi.errors import TooManyAttempts, TooManyRequests
from authapi.services.rate_limits import RateLimits
from authapi.testing import Client, client
from tests.conftest import SettingsFactory

Document = dict[str, Any]

ALL = ("session", "token", "jwt", "basic")
NO_BODY: Document = {"content": {"": {}}}
UNUSED_ID = str(UUID(int=7 << 76 | 2 << 62))
LATER = {
    "POST /email/confirm": "after a mail was found by its secret",
    "POST /email/undo": "after a mail was found by its secret",
    "POST /login/second-factor": "after the first factor",
    "POST /login/enrolment/totp": "after the first factor",
    "POST /login/enrolment/totp/confirm": "after the first factor",
    "POST /login/enrolment/passkey/options": "after the first factor",
    "POST /me/factors/recovery-codes": "after a second factor",
    "GET /me/export": "with a number of downloads at the same time",
    "GET /admin/events/export": "with a number of downloads at the same time",
}
"""Operations whose limit the requests of this test do not reach, and when it counts."""


def requests(document: Document, user: User) -> Iterator[tuple[str, Document, dict[str, Any]]]:
    """Yields a valid request for each example: its operation, the description and arguments."""
    for path, item in document["paths"].items():
        url = path.replace("{user_id}", str(user.id))
        for name in ("session_id", "token_id", "passkey_id"):
            url = url.replace(f"{{{name}}}", UNUSED_ID)
        for method, operation in item.items():
            name, arguments = f"{method.upper()} {path}", {"method": method.upper(), "url": url}
            [(kind, media)] = operation.get("requestBody", NO_BODY)["content"].items()
            examples = [example["value"] for example in media.get("examples", {}).values()]
            for body in examples or [media.get("example")]:
                yield name, operation, {**arguments, "json" if "json" in kind else "data": body}


async def log_in(api: Client, operation: Document) -> None:
    """Logs in a new superuser with a strategy of the operation, if it needs one."""
    api.cookies.clear()
    api.headers.pop("authorization", None)
    strategies = {name for item in operation["security"] for name in item}
    if strategies:
        strategy = "jwt" if "jwt" in strategies else "session"
        await api.login(await api.create_user(is_superuser=True), strategy=strategy)


def refuse_all(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(
        _: RateLimits,
        *__: object,
        error: type[TooManyAttempts | TooManyRequests] = TooManyAttempts,
    ) -> None:
        raise error(retry_after=1)

    monkeypatch.setattr(RateLimits, "_consume_all", refuse)


async def test_429_is_described_where_a_limit_counts(
    make_settings: SettingsFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = create_app(make_settings(docs=True, scopes={"reports:read": "Read reports"}))
    refused, described = set[str](), set[str]()
    async with client(app) as api:
        other = await api.create_user()
        for name, operation, arguments in requests(app.openapi(), other):
            if "client_secret" in str(operation["security"]):
                continue  # for resource servers, and not counted
            await log_in(api, operation)
            with monkeypatch.context() as patched:
                refuse_all(patched)
                answer = await api.request(**arguments)
            assert answer.status_code < 500, name
            refused |= {name} if answer.status_code == 429 else set()
            described |= {name} if "429" in operation["responses"] else set()
    assert refused <= described, "429 without a description"
    assert described - refused == LATER.keys(), "a description without 429"


async def test_a_password_in_each_request_is_counted_in_each(
    make_settings: SettingsFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = create_app(make_settings(docs=True, strategies=ALL))
    found = 0
    async with client(app) as api:
        user = await api.create_user()
        refuse_all(monkeypatch)
        for name, operation, arguments in requests(app.openapi(), user):
            if "basic" in {scheme for item in operation["security"] for scheme in item}:
                answer = await api.request(**arguments, auth=(str(user.email), "wrong password"))
                assert answer.status_code == 429, name
                assert answer.headers["retry-after"] == "1"
                assert "429" in operation["responses"], name
                found += 1
    assert found > 3


def test_routes_of_an_application_are_counted_with_a_password(
    make_settings: SettingsFactory,
) -> None:
    auth = AuthAPI(make_settings(strategies=ALL))
    app = FastAPI(lifespan=auth.lifespan)
    auth.install(app)
    app.get("/any", dependencies=[Depends(current_user())])(lambda: None)
    app.get("/jwt", dependencies=[Depends(current_user("jwt"))])(lambda: None)
    paths = app.openapi()["paths"]
    refusal = paths["/any"]["get"]["responses"]["429"]
    assert refusal["headers"].keys() == {"Retry-After"}
    assert "429" not in paths["/jwt"]["get"]["responses"]
