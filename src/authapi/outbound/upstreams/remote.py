"""A login at a provider: the request that leads there, and the checks of what comes back."""

import asyncio
import hashlib
import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from urllib.parse import urlencode, urlsplit

from authapi.clock import now
from authapi.crypto import base64url
from authapi.crypto.jws import TENANT
from authapi.domain.display_names import is_display_name
from authapi.domain.email_address import parse_email
from authapi.domain.federation.flow import Callback, Flow, FlowIntent
from authapi.domain.federation.person import Person
from authapi.errors import (
    InvalidInput,
    ProviderAnswerRefused,
    ProviderUnavailable,
)
from authapi.outbound.http_client import HTTPClient
from authapi.outbound.upstreams.endpoints import Endpoints, EndpointSource
from authapi.outbound.upstreams.exchange import Exchange, Tokens
from authapi.outbound.upstreams.id_tokens import IDTokens, auth_time_of
from authapi.outbound.upstreams.provider import Provider

_log = logging.getLogger("authapi.federation")

MAX_NAME = 200
"""Characters of a name that are kept."""
MFA_MAX_AGE = timedelta(hours=12)
"""Maximum age of a login at the provider whose second factor counts here."""
STEP_UP_MAX_AGE = timedelta(minutes=5)
"""Maximum age of a login at the provider that proves again who is logged in."""
_TIMEOUT = timedelta(seconds=5)
_TOTAL_TIMEOUT = 15.0
"""Seconds for all requests of one callback together."""
_MAX_BYTES = 256 * 1024
_MAX_AT_ONCE = 100
"""Callbacks that wait for one provider. Further ones are refused at once, so that they do not pile
up while it hangs."""


class RemoteUpstream:
    """The port `Upstream` for one provider, by HTTP.

    `trusts_mfa` accepts its second factors. `allow_reserved` accepts addresses that no mail
    reaches, as the setting of this name does.
    """

    def __init__(
        self, provider: Provider, *, trusts_mfa: bool = False, allow_reserved: bool = False
    ) -> None:
        self.provider = provider
        self._trusts_mfa = trusts_mfa
        self._allow_reserved = allow_reserved
        self._client = HTTPClient(timeout=_TIMEOUT, max_bytes=_MAX_BYTES)
        self.endpoints = EndpointSource(provider, self._client)
        self.id_tokens = IDTokens(provider, self._client)
        self._exchange = Exchange(provider, self._client)
        self._at_once = 0

    @property
    def name(self) -> str:
        """The name in the settings and in paths."""
        return self.provider.name

    @property
    def title(self) -> str:
        """The name for people, on buttons."""
        return self.provider.title

    @property
    def is_form_post(self) -> bool:
        """Whether the provider answers by a POST from its page."""
        return self.provider.response_mode == "form_post"

    @property
    def proves_fresh_login(self) -> bool:
        """Whether the provider logs a person in again on request and says when."""
        return self.provider.has_id_token and self.provider.proves_fresh_login

    @property
    def has_metadata(self) -> bool:
        """Whether `check` asks the provider for anything."""
        return self.provider.has_id_token

    async def authorization_url(
        self, flow: Flow, *, redirect_uri: str, hint: str | None = None
    ) -> str:
        """Returns where the browser is led. Raises ProviderUnavailable."""
        try:
            async with asyncio.timeout(_TOTAL_TIMEOUT):
                endpoints = await self._endpoints()
        except TimeoutError:
            raise ProviderUnavailable from None
        provider = self.provider
        parameters = {
            **provider.parameters,
            "response_type": "code",
            "client_id": provider.client_id,
            "redirect_uri": redirect_uri,
            "scope": " ".join(provider.scopes),
            "state": flow.state,
        }
        if provider.has_id_token:
            parameters["nonce"] = flow.nonce
        if provider.options.pkce:
            digest = hashlib.sha256(flow.verifier.encode()).digest()
            parameters["code_challenge"] = base64url.encode(digest)
            parameters["code_challenge_method"] = "S256"
        if self.is_form_post:
            parameters["response_mode"] = "form_post"
        max_age = self._max_age(flow)
        if max_age is not None:
            parameters["max_age"] = f"{max_age.total_seconds():.0f}"
        if flow.intent is FlowIntent.STEP_UP:
            parameters["prompt"] = "login"
        if hint is not None and provider.has_id_token:
            parameters["login_hint"] = hint
        separator = "&" if urlsplit(endpoints.authorization_url).query else "?"
        return f"{endpoints.authorization_url}{separator}{urlencode(parameters)}"

    async def person(self, callback: Callback, flow: Flow, *, redirect_uri: str) -> Person:
        """Exchanges the code and returns the person that the answer of the provider proves.

        Raises ProviderUnavailable if the provider does not answer, ProviderRefused if it refuses
        the code, and ProviderAnswerRefused if a check of its answer fails.
        """
        if self._at_once >= _MAX_AT_ONCE:
            raise ProviderUnavailable
        self._at_once += 1
        try:
            async with asyncio.timeout(_TOTAL_TIMEOUT):
                return await self._person(callback, flow, redirect_uri)
        except TimeoutError:
            raise ProviderUnavailable from None
        except ProviderAnswerRefused as error:
            _log.warning(
                "answer of a provider refused",
                extra={"provider": self.name, "reason": error.reason},
            )
            raise
        finally:
            self._at_once -= 1

    async def check(self) -> None:
        """Reads the metadata and the keys, without keeping them.

        Raises RequestFailed if the provider does not answer, or has no usable key, and
        ConfigurationError if its metadata cannot be used.
        """
        await self._open_client()
        endpoints = await self.endpoints.read()
        if self.provider.has_id_token:
            await self.id_tokens.check(endpoints)

    async def close(self) -> None:
        """Stops requests and closes the connections. Later logins open new ones."""
        await self.endpoints.stop()
        await self.id_tokens.stop()
        await self._client.close()

    async def _endpoints(self) -> Endpoints:
        await self._open_client()
        return await self.endpoints.current()

    async def _open_client(self) -> None:
        if not self._client.may_have_connections:
            # Loading the CA certificates takes longer than other requests should wait.
            with suppress(RuntimeError):  # no thread can be started: the first request loads them
                await asyncio.to_thread(self._client.open)

    async def _person(self, callback: Callback, flow: Flow, redirect_uri: str) -> Person:
        endpoints = await self._endpoints()
        if TENANT not in self.provider.issuer:
            _check_issuer(callback, endpoints, self.provider.issuer)
        tokens = await self._exchange.redeem(
            callback.code, endpoints, flow, redirect_uri=redirect_uri
        )
        claims = await self._claims(tokens, endpoints, flow)
        if TENANT in self.provider.issuer:
            # Only the token says which tenant has answered.
            _check_issuer(callback, endpoints, claims["iss"])
        userinfo = await self._userinfo(tokens, endpoints, claims)
        return self._finish(self._read(claims, userinfo), claims, callback, flow)

    async def _claims(
        self, tokens: Tokens, endpoints: Endpoints, flow: Flow
    ) -> Mapping[str, object]:
        if not self.provider.has_id_token:
            return {}
        return await self.id_tokens.verify(
            tokens.id_token, endpoints, nonce=flow.nonce, access_token=tokens.access_token
        )

    async def _userinfo(
        self, tokens: Tokens, endpoints: Endpoints, claims: Mapping[str, object]
    ) -> Mapping[str, object]:
        provider = self.provider
        is_wanted = not claims or any(name not in claims for name in provider.wanted_claims)
        if not is_wanted or endpoints.userinfo_url is None:
            return {}
        userinfo = await self._exchange.read(endpoints.userinfo_url, tokens)
        if claims:
            self._check_userinfo_subject(userinfo, claims)
        further = await self._exchange.read_further(provider.further_urls, tokens)
        return {**userinfo, **further}

    def _check_userinfo_subject(
        self, userinfo: Mapping[str, object], claims: Mapping[str, object]
    ) -> None:
        # OpenID Connect Core 1.0, 5.3.2: another subject is a substituted access token.
        try:
            subject = self.provider.userinfo_subject(userinfo)
        except Exception:  # code of any author, on claims of the provider
            subject = None
        if not isinstance(subject, str) or subject != claims["sub"]:
            raise ProviderAnswerRefused("userinfo sub")

    def _read(self, claims: Mapping[str, object], userinfo: Mapping[str, object]) -> Person:
        try:
            person: object = self.provider.person(claims, userinfo)
            if not isinstance(person, Person):
                raise TypeError("not a person")
            about: object = person.claims
            if not isinstance(about, Mapping):
                raise TypeError("not claims")
            identifiers: tuple[object, ...] = (person.issuer, person.subject)
            if not all(isinstance(it, str) and _is_identifier(it) for it in identifiers):
                raise TypeError("not an identifier")
        except ProviderAnswerRefused:
            raise
        except Exception as error:
            # The claims of a provider may make any code raise. The text may repeat them.
            raise ProviderAnswerRefused(f"person {type(error).__name__}") from None
        return person

    def _finish(
        self, person: Person, claims: Mapping[str, object], callback: Callback, flow: Flow
    ) -> Person:
        """Adds what no provider decides about itself, and removes what is not usable."""
        auth_time = auth_time_of(claims)
        max_age = self._max_age(flow)
        if flow.intent is FlowIntent.STEP_UP:
            # Also for a provider that cannot be asked for a new login: it proves nothing then.
            max_age = STEP_UP_MAX_AGE if self.proves_fresh_login else timedelta(0)
        if max_age is not None and (auth_time is None or now() - auth_time > max_age):
            raise ProviderAnswerRefused("id_token auth_time")
        email = self._usable_address(person.email)
        is_verified = email is not None and person.email_verified is True
        name = person.name
        if name is None and callback.user is not None:
            with suppress(Exception):  # code of any author, on text of any sender
                name = self.provider.name_of(callback.user)
        return replace(
            person,
            provider=self.name,
            email=email,
            email_verified=is_verified,
            is_authoritative=is_verified and person.is_authoritative is True,
            name=_usable_name(name),
            auth_time=auth_time,
            has_proved_mfa=self._has_proved_mfa(claims, auth_time),
        )

    def _max_age(self, flow: Flow) -> timedelta | None:
        if not self.proves_fresh_login:
            return None
        if flow.intent is FlowIntent.STEP_UP:
            return timedelta(0)
        return MFA_MAX_AGE if self._trusts_mfa else None

    def _has_proved_mfa(self, claims: Mapping[str, object], auth_time: datetime | None) -> bool:
        if not self._trusts_mfa or auth_time is None or now() - auth_time > MFA_MAX_AGE:
            return False
        methods, context = claims.get("amr"), claims.get("acr")
        return (isinstance(methods, list) and "mfa" in methods) or (
            isinstance(context, str) and context in self.provider.options.mfa_acr
        )

    def _usable_address(self, email: object) -> str | None:
        if not isinstance(email, str):
            return None
        try:
            return parse_email(email, allow_reserved=self._allow_reserved).original
        except InvalidInput:
            return None


def _check_issuer(callback: Callback, endpoints: Endpoints, issuer: object) -> None:
    # RFC 9207, section 2.4: compared exactly, and required if the provider says that it sends it.
    if callback.issuer is None and not endpoints.sends_issuer:
        return
    if callback.issuer != issuer:
        raise ProviderAnswerRefused("iss")


def _is_identifier(text: str) -> bool:
    # With blanks around it, two systems could take it for the identifier of another person.
    return text.isprintable() and text == text.strip()


def _usable_name(name: object) -> str | None:
    if not isinstance(name, str):
        return None
    line = " ".join(name.split())[:MAX_NAME].strip()
    return line if is_display_name(line) else None
