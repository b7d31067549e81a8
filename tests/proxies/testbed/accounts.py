"""Accounts for the tests, each with a cookie, an opaque token and a JWT."""

import secrets
from dataclasses import dataclass
from typing import Self

from tests.proxies.testbed.wire import Address, ask

PASSWORD = "correct horse battery staple"


@dataclass(frozen=True)
class Account:
    """An account, logged in by each strategy."""

    id: str
    email: str
    cookie: dict[str, str]
    token: dict[str, str]
    jwt: dict[str, str]

    @classmethod
    def new(cls, service: Address) -> Self:
        """Registers an account at `service`, and logs in three times."""
        account = {"email": f"{secrets.token_hex(8)}@example.com", "password": PASSWORD}
        made = ask(service, "POST", "/register", body=account)
        assert made.status == 201, made
        answers = {
            strategy: ask(service, "POST", "/login", body={**account, "strategy": strategy})
            for strategy in ("session", "token", "jwt")
        }
        assert {answer.status for answer in answers.values()} == {200}, answers
        return cls(
            id=made.json()["id"],
            email=account["email"],
            cookie={"Cookie": answers["session"].headers["set-cookie"].partition(";")[0]},
            token=_bearer(answers["token"].json()["access_token"]),
            jwt=_bearer(answers["jwt"].json()["access_token"]),
        )


def _bearer(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}
