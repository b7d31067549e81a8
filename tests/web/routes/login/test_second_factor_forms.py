"""`auth.log_in` and `auth.prove_second_factor` in forms of an application."""

from collections.abc import AsyncIterator
from typing import Annotated

import pytest
from fastapi import Body, FastAPI, Request
from fastapi.responses import JSONResponse, Response

from authapi import AuthAPI, SecondFactorRequired
from authapi.errors import InvalidInput
from authapi.testing import PASSWORD, Client, client
from tests.conftest import SettingsFactory
from tests.second_factors import SecondFactors, add_second_factors, insert_passkey
from tests.soft_authenticator import SoftAuthenticator

Text = Annotated[str, Body(embed=True)]
OptionalText = Annotated[str | None, Body()]
Ticket = Annotated[str | None, Body(embed=True)]
Answer = Annotated[dict[str, object], Body(embed=True)]


def answer_of(required: SecondFactorRequired) -> Response:
    response = JSONResponse({"ticket": required.ticket, "methods": required.methods})
    for name, value in required.headers:
        response.headers.append(name, value)
    return response


@pytest.fixture
async def api(make_settings: SettingsFactory) -> AsyncIterator[Client]:
    auth = AuthAPI(make_settings())
    app = FastAPI(lifespan=auth.lifespan)
    auth.install(app, prefix="/auth")

    @app.post("/async/first")
    async def first(request: Request, strategy: Text) -> Response:
        response: Response = JSONResponse({})
        try:
            done = await auth.log_in(request, "alice@example.com", PASSWORD, strategy=strategy)
        except SecondFactorRequired as required:
            return answer_of(required)
        done.set_on(response)
        return response

    @app.post("/async/second")
    async def second(request: Request, code: Text, ticket: OptionalText = None) -> Response:
        done = await auth.prove_second_factor(request, code=code, ticket=ticket)
        response = JSONResponse(dict(done.body))
        done.set_on(response)
        return response

    @app.post("/sync/first")
    def sync_first(request: Request, strategy: Text) -> Response:
        try:
            auth.sync.log_in(request, "alice@example.com", PASSWORD, strategy=strategy)
        except SecondFactorRequired as required:
            return answer_of(required)
        return JSONResponse({})

    @app.post("/sync/second")
    def sync_second(request: Request, code: Text, ticket: OptionalText = None) -> Response:
        done = auth.sync.prove_second_factor(request, code=code, ticket=ticket)
        response = JSONResponse(dict(done.body))
        done.set_on(response)
        return response

    @app.post("/async/options")
    async def options(request: Request, ticket: Ticket = None) -> dict[str, object]:
        return await auth.second_factor_options(request, ticket=ticket)

    @app.post("/async/passkey")
    async def passkey(request: Request, answer: Answer, ticket: OptionalText = None) -> Response:
        done = await auth.prove_second_factor(request, passkey=answer, ticket=ticket)
        response = JSONResponse(dict(done.body))
        done.set_on(response)
        return response

    @app.post("/sync/options")
    def sync_options(request: Request, ticket: Ticket = None) -> dict[str, object]:
        return auth.sync.second_factor_options(request, ticket=ticket)

    @app.post("/sync/passkey")
    def sync_passkey(request: Request, answer: Answer, ticket: OptionalText = None) -> Response:
        done = auth.sync.prove_second_factor(request, passkey=answer, ticket=ticket)
        response = JSONResponse(dict(done.body))
        done.set_on(response)
        return response

    @app.post("/without")
    async def without(request: Request) -> str:
        with pytest.raises(InvalidInput):
            await auth.prove_second_factor(request)
        with pytest.raises(InvalidInput):
            await auth.prove_second_factor(request, code="1", recovery_code="2")
        with pytest.raises(InvalidInput):
            await auth.prove_second_factor(request, code="1", passkey={})
        return "refused"

    async with client(app) as found:
        yield found


@pytest.fixture
async def alice(api: Client) -> SecondFactors:
    return await add_second_factors(api.services, await api.create_user("alice@example.com"))


@pytest.mark.parametrize("kind", ["async", "sync"])
async def test_a_browser_logs_in_by_two_forms(api: Client, alice: SecondFactors, kind: str) -> None:
    asked = await api.post(f"/{kind}/first", json={"strategy": "session"})
    assert asked.json() == {"ticket": None, "methods": ["totp", "recovery"]}
    assert (await api.get("/auth/me")).status_code == 401
    wrong = await api.post(f"/{kind}/second", json={"code": alice.wrong_code()})
    assert (wrong.status_code, wrong.json()["code"]) == (401, "second_factor_refused")
    done = await api.post(f"/{kind}/second", json={"code": alice.code()})
    assert done.status_code == 200
    assert "authapi-login" not in api.cookies
    assert (await api.get("/auth/me/identity")).json()["acr"] == "urn:authapi:acr:2"


@pytest.mark.parametrize("kind", ["async", "sync"])
async def test_an_app_logs_in_with_a_ticket(api: Client, alice: SecondFactors, kind: str) -> None:
    asked = (await api.post(f"/{kind}/first", json={"strategy": "token"})).json()
    body = {"code": alice.code(), "ticket": asked["ticket"]}
    done = await api.post(f"/{kind}/second", json=body)
    headers = {"authorization": f"Bearer {done.json()['access_token']}"}
    assert (await api.get("/auth/me", headers=headers)).status_code == 200


async def test_a_call_without_exactly_one_code_is_refused(api: Client) -> None:
    assert (await api.post("/without")).json() == "refused"


@pytest.mark.parametrize("kind", ["async", "sync"])
@pytest.mark.parametrize("strategy", ["session", "token"])
async def test_a_passkey_is_the_second_step_of_a_form(
    api: Client, alice: SecondFactors, strategy: str, kind: str
) -> None:
    passkey = SoftAuthenticator()
    await insert_passkey(api.services, alice.user, passkey)
    asked = (await api.post(f"/{kind}/first", json={"strategy": strategy})).json()
    assert asked["methods"] == ["totp", "passkey", "recovery"]
    login = {"ticket": asked["ticket"]}
    options = (await api.post(f"/{kind}/options", json=login)).json()
    assert [item["id"] for item in options["allowCredentials"]] == [passkey.id]
    assert (options["rpId"], options["userVerification"]) == ("localhost", "discouraged")
    wrong = SoftAuthenticator(credential_id=passkey.credential_id)
    refused = await api.post(f"/{kind}/passkey", json={**login, "answer": wrong.get(options)})
    assert (refused.status_code, refused.json()["code"]) == (401, "second_factor_refused")
    assert refused.json()["attempts_left"] == 4
    done = await api.post(f"/{kind}/passkey", json={**login, "answer": passkey.get(options)})
    assert done.status_code == 200
    if strategy == "token":
        api.headers["Authorization"] = f"Bearer {done.json()['access_token']}"
    assert (await api.get("/auth/me/identity")).json()["acr"] == "phr"


@pytest.mark.parametrize("kind", ["async", "sync"])
async def test_what_is_no_answer_of_a_browser_is_refused(api: Client, kind: str) -> None:
    for answer in ({}, {"id": "?", "type": "public-key", "response": {}}, {"id": 1}):
        refused = await api.post(f"/{kind}/passkey", json={"answer": answer})
        assert (refused.status_code, refused.json()["code"]) == (422, "validation_failed")
        assert {item["loc"][0] for item in refused.json()["errors"]} == {"passkey"}
    expired = await api.post(f"/{kind}/options", json={})
    assert (expired.status_code, expired.json()["code"]) == (401, "login_expired")
