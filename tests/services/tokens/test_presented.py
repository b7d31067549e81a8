"""What a text is that somebody holds."""

from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import uuid4

import pytest

from authapi.clock import now
from authapi.crypto.jwk import VerifyingKey
from authapi.crypto.jws import Verified
from authapi.errors import TokenError
from authapi.identity import SessionKind, User
from authapi.services import Lifetime, Login, Services
from authapi.services.addresses import parse_email
from authapi.services.scopes import INTROSPECT, existing_scopes, scopes_of_login
from authapi.services.tokens import TokenKind
from authapi.services.tokens.claims import access_claims
from authapi.settings import Settings
from tests.known_key import KEY

PASSWORD = "correct horse battery staple"


async def proved(services: Services, email: str = "alice@example.com") -> Login:
    """A login of a new account."""
    await services.accounts.create(parse_email(email), PASSWORD)
    return await services.accounts.prove(parse_email(email), PASSWORD, strategy="jwt")


async def signed(services: Services, login: Login, kind: SessionKind, audience: str) -> str:
    """A JWT for `audience`, of a new session of this kind."""
    lifetime = Lifetime(timedelta(days=1))
    session = await services.sessions.begin(login, kind, lifetime=lifetime)
    return await services.keys.sign_access_token(
        login.user,
        session,
        issued=now(),
        expires=now() + timedelta(minutes=5),
        audience=audience,
    )


@pytest.fixture
async def services(sqlite_url: str) -> AsyncIterator[Services]:
    """With another service that JWTs are minted for."""
    settings = Settings(database_url=sqlite_url, jwt_audiences="other")  # type: ignore[arg-type]
    found = Services.build(settings)
    await found.start()
    yield found
    await found.stop()


async def test_a_jwt_for_us_is_of_a_jwt_session_and_one_for_others_of_any(
    services: Services,
) -> None:
    login = await proved(services)
    for audience, kind, is_one in (
        ("authapi", SessionKind.JWT, True),
        ("authapi", SessionKind.SESSION, False),
        ("other", SessionKind.SESSION, True),
        ("other", SessionKind.JWT, True),
        ("third", SessionKind.JWT, False),
    ):
        text = await signed(services, login, kind, audience)
        found = await services.token_states.introspect(text)
        assert (found is not None) is is_one, (audience, kind)
        if found:
            assert (found.kind, found.audience) == (TokenKind.ACCESS, audience)


async def test_a_jwt_of_somebody_elses_session_is_nothing(services: Services) -> None:
    alice, bob = await proved(services), await proved(services, "bob@example.com")
    session = await services.sessions.begin(
        alice, SessionKind.JWT, lifetime=Lifetime(timedelta(days=1))
    )
    text = await services.keys.sign_access_token(
        bob.user, session, issued=now(), expires=now() + timedelta(minutes=5)
    )
    assert await services.token_states.introspect(text) is None
    await services.token_states.revoke(text, caller=None)
    assert await services.sessions.list_of(alice.user.id)


async def test_what_a_retired_key_has_signed_is_nothing(services: Services) -> None:
    login = await proved(services)
    text = await signed(services, login, SessionKind.JWT, "authapi")
    found = await services.token_states.introspect(text)
    assert found
    [active, _] = (await services.keys.ring()).stored
    await services.keys.lifecycle.retire(active.kid)
    assert await services.token_states.introspect(text) is None
    await services.token_states.revoke(text, caller=None)
    assert await services.sessions.list_of(login.user.id), "it is nobody's word any more"


SPELLED_OTHERWISE = (
    "{0190c0de-0000-7000-8000-000000000000}",
    "urn:uuid:0190c0de-0000-7000-8000-000000000000",
    "0190c0de000070008000000000000000",
    " 190c0de-0000-7000-8000-000000000000",
    "0190C0DE-0000-7000-8000-000000000000",
)
"""UUIDs, as Python reads them and `str` does not write them."""


@pytest.mark.parametrize(
    "change",
    [
        *({"sid": "x"}, {"sid": None}, {"sub": "alice"}, {"exp": 1e12}, {"sid": 7}),
        *({name: text} for name in ("sid", "sub") for text in SPELLED_OTHERWISE),
    ],
    ids=str,
)
def test_claims_that_are_none_of_ours(change: dict[str, object]) -> None:
    claims: dict[str, object] = {"sid": str(uuid4()), "sub": str(uuid4()), "aud": "a", "jti": "j"}
    claims |= {"iat": 1, "exp": 2}
    key: VerifyingKey = KEY.verifying
    assert access_claims(Verified(claims, key)).scopes == frozenset()
    with pytest.raises(TokenError):
        access_claims(Verified(claims | change, key))


def test_introspect_is_a_scope_that_there_is() -> None:
    def user(is_superuser: bool) -> User:
        return User(uuid4(), "a@example.com", None, True, is_superuser, None, now(), now())

    plain = Settings(scopes={"a": "A"})
    assert existing_scopes(plain).keys() == {"a", INTROSPECT}
    assert scopes_of_login(user(False), plain) == {"a"}
    assert scopes_of_login(user(True), plain) == {"a", INTROSPECT}
    named = Settings(scopes={INTROSPECT: "Of our own"})
    assert existing_scopes(named) == {INTROSPECT: "Of our own"}
    assert scopes_of_login(user(False), named) == {INTROSPECT}
