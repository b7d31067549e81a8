"""The requests of a callback: the exchange of the code, and reads with the access token."""

import base64
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote_plus

from authapi.crypto import strict_json
from authapi.domain.federation.flow import Flow
from authapi.errors import ProviderAnswerRefused, ProviderRefused, ProviderUnavailable
from authapi.outbound.http_client import HTTPClient, RequestFailed, Response
from authapi.outbound.upstreams.endpoints import Endpoints
from authapi.outbound.upstreams.provider import Provider

_log = logging.getLogger("authapi.federation")

_MAX_ACCESS_TOKEN = 16384
_KNOWN_ERRORS = frozenset(
    {
        *("invalid_request", "invalid_client", "invalid_grant", "unauthorized_client"),
        *("unsupported_grant_type", "invalid_scope", "server_error", "temporarily_unavailable"),
        *("bad_verification_code", "incorrect_client_credentials", "redirect_uri_mismatch"),
    }
)
"""Codes that are logged as they are: RFC 6749, section 5.2, and those of GitHub."""
_SERVER_ERRORS = frozenset({"server_error", "temporarily_unavailable"})


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens of one login. They are not kept."""

    access_token: str | None = field(repr=False)
    id_token: object = field(repr=False)


class Exchange:
    """Sends the requests of callbacks to one provider."""

    def __init__(self, provider: Provider, client: HTTPClient) -> None:
        self._provider = provider
        self._client = client

    async def redeem(
        self, code: str, endpoints: Endpoints, flow: Flow, *, redirect_uri: str
    ) -> Tokens:
        """Exchanges an authorization code (RFC 6749, section 4.1.3; RFC 7636, section 4.5).

        Raises ProviderUnavailable, ProviderRefused, and ProviderAnswerRefused for an answer that
        cannot be read.
        """
        provider = self._provider
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": redirect_uri}
        if provider.options.pkce:
            form["code_verifier"] = flow.verifier
        if provider.repeats_state:
            form["state"] = flow.state
        headers, secret = dict[str, str](), provider.client_secret()
        if secret is not None and endpoints.client_auth == "basic":
            # RFC 6749, section 2.3.1: both parts are encoded as in a form.
            pair = f"{quote_plus(provider.client_id)}:{quote_plus(secret)}"
            headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        else:
            form["client_id"] = provider.client_id
            if secret is not None:
                form["client_secret"] = secret
        try:
            response = await self._client.post(endpoints.token_url, form, headers=headers)
        except RequestFailed as error:
            raise self._unavailable(error) from None
        return self._tokens(response)

    async def read(self, url: str, tokens: Tokens) -> Mapping[str, object]:
        """Returns the JSON object at `url`.

        Raises ProviderUnavailable, and ProviderAnswerRefused for any other answer.
        """
        value = _json(await self._get(url, tokens))
        if not isinstance(value, dict):
            raise ProviderAnswerRefused("userinfo")
        return value

    async def read_further(self, urls: Mapping[str, str], tokens: Tokens) -> Mapping[str, object]:
        """Returns the JSON values at `urls`, without those that the provider refuses to give."""
        values = dict[str, object]()
        for name, url in urls.items():
            response = await self._get(url, tokens)
            if response.status == 200:
                values[name] = _json(response)
        return values

    async def _get(self, url: str, tokens: Tokens) -> Response:
        if tokens.access_token is None:
            raise ProviderAnswerRefused("access_token")
        headers = {"Authorization": f"Bearer {tokens.access_token}"}
        try:
            response = await self._client.get(url, headers=headers)
        except RequestFailed as error:
            raise self._unavailable(error) from None
        self._check_available(response)
        return response

    def _tokens(self, response: Response) -> Tokens:
        self._check_available(response)
        try:
            value = strict_json.loads(response.body)
        except ValueError:
            value = None
        if isinstance(value, dict) and "error" in value:
            raise self._refused(value["error"])
        if response.status != 200 or not isinstance(value, dict):
            raise ProviderAnswerRefused("token response")
        access_token = value.get("access_token")
        if access_token is not None and not _is_token(access_token):
            raise ProviderAnswerRefused("access_token")
        return Tokens(access_token, value.get("id_token"))

    def _check_available(self, response: Response) -> None:
        if response.status >= 500 or response.is_rate_limited:
            raise self._unavailable(RequestFailed(f"status {response.status}"))

    def _refused(self, error: object) -> Exception:
        code = error if isinstance(error, str) and error in _KNOWN_ERRORS else "other"
        _log.warning(
            "provider refused an authorization code",
            extra={"provider": self._provider.name, "error": code},
        )
        return ProviderUnavailable() if code in _SERVER_ERRORS else ProviderRefused()

    def _unavailable(self, error: RequestFailed) -> Exception:
        _log.warning(
            "provider not available",
            extra={"provider": self._provider.name, "cause": str(error)},
        )
        return ProviderUnavailable()


def _is_token(value: object) -> bool:
    # RFC 6750, section 2.1: it becomes a header.
    return (
        isinstance(value, str)
        and 0 < len(value) <= _MAX_ACCESS_TOKEN
        and value.isascii()
        and value.isprintable()
        and " " not in value
    )


def _json(response: Response) -> object:
    if response.status != 200:
        raise ProviderAnswerRefused("userinfo")
    try:
        return strict_json.loads(response.body)
    except ValueError:
        raise ProviderAnswerRefused("userinfo") from None
