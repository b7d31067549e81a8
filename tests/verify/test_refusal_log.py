"""The log at DEBUG names the failed check, and never the content of the token."""

import json
import logging
from datetime import timedelta
from typing import Any

import pytest

from authapi.verify import RemoteJWT, TokenPolicy
from tests.crypto import forgery
from tests.verify.conftest import Clock, Open, bearer
from tests.verify.issuer import AUDIENCE, Issuer

NOW = forgery.NOW
CANARY = "canary"


def bad_tokens(issuer: Issuer) -> dict[str, str]:
    """Returns a token that fails each check, with values that the log must not contain."""

    def made(header: dict[str, Any] | None = None, **claims: Any) -> str:
        canaries = {"sub": f"{CANARY}-sub", "email": f"{CANARY}@example.com", "jti": CANARY}
        return issuer.token(header=header, **{**canaries, **claims})

    return {
        "format": f"{CANARY}.{CANARY}.{CANARY}",
        "header": made({"crit": [CANARY]}),
        "typ": made({"typ": CANARY}),
        "key": made({"kid": CANARY}),
        "alg": made({"alg": CANARY}),
        "signature": issuer.token(
            key=forgery.new_key(), header={"kid": issuer.key.verifying.kid}, jti=CANARY
        ),
        "identifiers": made(sub=f"{CANARY}\n"),
        "iss": made(iss=f"https://{CANARY}.example"),
        "aud": made(aud=CANARY),
        "client": made(azp=CANARY),
        "required claims": made(azp="app", token_use=CANARY),
        "exp": made(azp="app", exp=NOW, iat=NOW - 9),
        "iat": made(azp="app", iat=NOW + 31),
        "lifetime": made(azp="app", exp=NOW + 99_999),
        "nbf": made(azp="app", nbf=CANARY),
        "email": made(azp="app", email=f"{CANARY} {CANARY}"),
        "amr": made(azp="app", amr=CANARY),
        "auth_time": made(azp="app", auth_time=CANARY),
        "realm_access.roles": made(azp="app", realm_access=CANARY),
    }


def trusted(issuer: Issuer) -> RemoteJWT:
    return RemoteJWT(
        issuer.url,
        AUDIENCE,
        policy=TokenPolicy(
            client_ids="app",
            required_claims={"token_use": "access"},
            max_lifetime=timedelta(hours=1),
            scope_claims=("realm_access.roles",),
        ),
    )


async def test_each_rejection_logs_the_failed_check(
    issuer: Issuer, clock: Clock, trusting: Open, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    tokens = bad_tokens(issuer)
    async with trusting(trusted(issuer)) as api:
        answers = set()
        for check, made in tokens.items():
            # Every token that reaches the check of required claims has them, except its own.
            whole = check in ("required claims", "format", "signature")
            token = made if whole else _with_use(issuer, made)
            caplog.clear()
            answer = await api.get("/who", headers=bearer(token))
            assert answer.status_code == 401, check
            answers.add((answer.headers["www-authenticate"], answer.json()["code"]))
            [record] = [r for r in caplog.records if r.getMessage() == "token rejected"]
            assert record.__dict__["check"] == check
            assert record.__dict__["issuer"] == issuer.url
            assert record.__dict__["strategy"] == "jwt"
            assert record.levelno == logging.DEBUG
            for entry in caplog.records:
                assert CANARY not in f"{entry.getMessage()} {entry.__dict__}", check
            for part in token.split("."):
                assert len(part) < 8 or part not in caplog.text
    assert len(answers) == 1, "the caller learns no reason"


def _with_use(issuer: Issuer, token: str) -> str:
    """Signs the token again, with the required claim `token_use`."""
    header, claims, _ = token.split(".")
    claims_with_use = {"token_use": "access", **json.loads(forgery.unb64(claims))}
    return forgery.forge(forgery.unb64(header), claims_with_use, key=issuer.key)


async def test_accepted_token_is_not_logged(
    issuer: Issuer, clock: Clock, trusting: Open, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with trusting() as api:
        assert (await api.get("/who", headers=bearer(issuer.token()))).status_code == 200
    assert "rejected" not in caplog.text
