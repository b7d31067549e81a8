"""Token introspection: tokens of each kind, and what is unknown."""

from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import uuid4

import pytest

from authapi.clock import now
from authapi.crypto.jwk import VerifyingKey
from authapi.crypto.jws import VerifiedToken
from authapi.domain.email_address import parse_email
from authapi.domain.scopes import INTROSPECT, login_scopes, supported_scopes
from authapi.domain.session import SessionKind
from authapi.domain.user import User
from authapi.errors import TokenError
from authapi.services import Lifetime, Login, Services
from authapi.services.tokens import TokenKind
from authapi.services.tokens.claims import parse_access_claims
from authapi.settings import Settings
from tests.known_key import KEY

PASSWORD = "correct horse battery staple"


async def new_login(services: Services, email: str = "alice@example.com") -> Login:
    """A login of a new account."""
    await services.accounts.registration.create(parse_email(email), PASSWORD)
    proved = await services.accounts.authentication.authenticate(
        parse_email(email), PASSWORD, strategy="jwt"
    )
    return services.logins.complete_at_once(proved)


async def signed(services: Services, login: Login, kind: SessionKind, audience: str) -> str:
    """A JWT for `audience`, of a new session of this kind."""
    lifetime = Lifetime(timedelta(days=1))
    session = await services.sessions.create(login, kind, lifetime=lifetime)
    return await services.keys.sign_access_token(
        login.user,
        session,
        issued=now(),
        expires=now() + timedelta(minutes=5),
        audience=audience,
    )


@pytest.fixture
async def services(sqlite_url: str) -> AsyncIterator[Services]:
    """Services with another service as an allowed audience."""
    settings = Settings(database_url=sqlite_url, jwt_audiences="other")  # type: ignore[arg-type]
    found = Services.build(settings)
    await found.start()
    yield found
    await found.stop()


async def test_a_jwt_for_this_service_needs_a_jwt_session(
    services: Services,
) -> None:
    login = await new_login(services)
    for audience, kind, is_one in (
        ("authapi", SessionKind.JWT, True),
        ("authapi", SessionKind.SESSION, False),
        ("other", SessionKind.SESSION, True),
        ("other", SessionKind.JWT, True),
        ("third", SessionKind.JWT, False),
    ):
        text = await signed(services, login, kind, audience)
        found = await services.tokens.introspection.introspect(text)
        assert (found is not None) is is_one, (audience, kind)
        if found:
            assert (found.kind, found.audience) == (TokenKind.ACCESS, audience)


async def test_a_jwt_for_a_session_of_another_user_is_unknown(services: Services) -> None:
    alice, bob = await new_login(services), await new_login(services, "bob@example.com")
    session = await services.sessions.create(
        alice, SessionKind.JWT, lifetime=Lifetime(timedelta(days=1))
    )
    text = await services.keys.sign_access_token(
        bob.user, session, issued=now(), expires=now() + timedelta(minutes=5)
    )
    assert await services.tokens.introspection.introspect(text) is None
    await services.tokens.revocation.revoke(text, caller=None)
    assert await services.sessions.list_for_user(alice.user.id)


async def test_a_jwt_of_a_retired_key_is_unknown(services: Services) -> None:
    login = await new_login(services)
    text = await signed(services, login, SessionKind.JWT, "authapi")
    found = await services.tokens.introspection.introspect(text)
    assert found
    [active, _] = (await services.keys.key_set()).stored
    await services.keys.lifecycle.retire(active.kid)
    assert await services.tokens.introspection.introspect(text) is None
    await services.tokens.revocation.revoke(text, caller=None)
    assert await services.sessions.list_for_user(login.user.id), "the session lives on"


SPELLED_OTHERWISE = (
    "{0190c0de-0000-7000-8000-000000000000}",
    "urn:uuid:0190c0de-0000-7000-8000-000000000000",
    "0190c0de000070008000000000000000",
    " 190c0de-0000-7000-8000-000000000000",
    "0190C0DE-0000-7000-8000-000000000000",
)
"""Spellings of UUIDs that `UUID` accepts and `str` does not produce."""


@pytest.mark.parametrize(
    "change",
    [
        *({"sid": "x"}, {"sid": None}, {"sub": "alice"}, {"exp": 1e12}, {"sid": 7}),
        *({name: text} for name in ("sid", "sub") for text in SPELLED_OTHERWISE),
    ],
    ids=str,
)
def test_claims_of_another_form_raise_token_error(change: dict[str, object]) -> None:
    claims: dict[str, object] = {"sid": str(uuid4()), "sub": str(uuid4()), "aud": "a", "jti": "j"}
    claims |= {"iat": 1, "exp": 2}
    key: VerifyingKey = KEY.verifying
    assert parse_access_claims(VerifiedToken(claims, key)).scopes == frozenset()
    with pytest.raises(TokenError):
        parse_access_claims(VerifiedToken(claims | change, key))


def test_introspect_is_a_supported_scope() -> None:
    def user(is_superuser: bool) -> User:
        return User(uuid4(), "a@example.com", None, True, is_superuser, None, now(), now())

    plain = Settings(scopes={"a": "A"})
    assert supported_scopes(plain).keys() == {"a", INTROSPECT}
    assert login_scopes(user(False), plain, amr=("pwd",)) == {"a"}
    assert login_scopes(user(True), plain, amr=("pwd",)) == {"a", INTROSPECT}
    named = Settings(scopes={INTROSPECT: "Of our own"})
    assert supported_scopes(named) == {INTROSPECT: "Of our own"}
    assert login_scopes(user(False), named, amr=("pwd",)) == {INTROSPECT}
