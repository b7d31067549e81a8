"""Tokens of every kind, for tests of routes that read a token."""

from dataclasses import dataclass
from uuid import UUID

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from authapi.clock import now
from authapi.domain.user import User
from authapi.services import Services
from authapi.testing import PASSWORD, Client

few = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
"""Hypothesis settings for tests with a service per test that no example changes."""

GARBAGE = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1
) | st.from_regex(r"(aat_|art_|ey)[A-Za-z0-9_.-]{0,200}", fullmatch=True)
"""Texts that are not tokens; some look like one."""

OTHER = "https://reports.example"
"""Another service for which JWTs are issued if `jwt_audiences` names it."""


@dataclass(frozen=True)
class Held:
    """The tokens of one account."""

    user: User
    jwt: str
    refresh: str
    """From the same login as `jwt`."""
    opaque: str
    personal: str
    minted: str
    """A JWT for another service, from a third login."""

    def all(self) -> dict[str, str]:
        """Returns the tokens by the name of their kind."""
        names = ("jwt", "refresh", "opaque", "personal", "minted")
        return {name: getattr(self, name) for name in names}


async def tokens_of(api: Client, user: User) -> Held:
    """Creates a token of every kind."""
    jwt, other = await login(api, user, "jwt"), await login(api, user, "jwt")
    headers = bearer(jwt["access_token"])
    made = await api.post("/me/tokens", json={"name": "script"}, headers=headers)
    return Held(
        user=user,
        jwt=jwt["access_token"],
        refresh=jwt["refresh_token"],
        opaque=(await login(api, user, "token"))["access_token"],
        personal=made.json()["access_token"],
        minted=await minted(api.services, other["access_token"], OTHER),
    )


async def login(api: Client, user: User, strategy: str) -> dict[str, str]:
    """Logs in; returns the body of the response."""
    body = {"email": user.email, "password": PASSWORD, "strategy": strategy}
    answer = await api.post("/login", json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, str] = answer.json()
    return found


async def minted(services: Services, token: str, audience: str) -> str:
    """Signs a JWT for `audience` with the session that the JWT `token` names."""
    claims = (await services.keys.verify_access_token(token, now=now())).claims
    async with services.database.read() as store:
        found = await store.sessions.find_with_user(UUID(str(claims["sid"])))
    assert found
    session, user = found
    issued = now().replace(microsecond=0)
    return await services.keys.sign_access_token(
        user,
        session,
        issued=issued,
        expires=issued + services.settings.jwt_lifetime,
        audience=audience,
    )


async def refreshed(api: Client, token: str) -> dict[str, str]:
    """Exchanges a refresh token; returns the body of the response."""
    answer = await api.post("/token", data={"grant_type": "refresh_token", "refresh_token": token})
    assert answer.status_code == 200, answer.text
    found: dict[str, str] = answer.json()
    return found


def bearer(token: str) -> dict[str, str]:
    """Returns the request headers with a bearer token."""
    return {"authorization": f"Bearer {token}"}
