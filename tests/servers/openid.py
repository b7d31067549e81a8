"""An OpenID provider on loopback, in a thread, that answers correctly or as a test wants.

`GET /authorize` sends the browser back at once, as if the person were logged in there. Everything
that it answers is an attribute that a test may change, so that it can be as hostile as needed.
"""

import base64
import hashlib
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlencode

from authapi.crypto.jwk import SigningKey
from tests.crypto import forgery
from tests.verify.issuer import JWKS, METADATA, OPENID, Issuer, Reply

CLIENT_ID = "authapi-client"
CLIENT_SECRET = "a-client-secret-of-the-tests"
AUTHORIZE, TOKEN, USERINFO = "/authorize", "/token", "/userinfo"


class OpenIDServer(Issuer):
    """The provider. `claims` describe the person who is logged in there."""

    def __init__(self) -> None:
        super().__init__()
        self.claims: dict[str, Any] = {
            "sub": "248289761001",
            "email": "jane@example.com",
            "email_verified": True,
            "name": "Jane Doe",
        }
        self.userinfo: dict[str, Any] = {"sub": "248289761001"}
        self.sends_issuer = True
        self.metadata: dict[str, Any] = {
            "issuer": self.url,
            "authorization_endpoint": self.url + AUTHORIZE,
            "token_endpoint": self.url + TOKEN,
            "userinfo_endpoint": self.url + USERINFO,
            "jwks_uri": self.url + JWKS,
            "id_token_signing_alg_values_supported": ["RS256", "ES256"],
            "authorization_response_iss_parameter_supported": True,
        }
        self.make_token: Callable[[dict[str, Any]], object] = self.signed
        """Returns the ID token with these claims."""
        self.token_response: dict[str, Any] = {}
        """Members of the token response that are changed; None removes one."""
        self.visits: dict[str, Mapping[str, str]] = {}
        """The parameters of visits by their codes, each of which is redeemed once."""
        del self.replies[METADATA]
        self.replies[OPENID] = lambda _: Reply(self.metadata)
        self.replies[AUTHORIZE] = self._authorize
        self.replies[TOKEN] = self._token
        self.replies[USERINFO] = lambda _: Reply(self.userinfo)

    def signed(
        self,
        claims: Mapping[str, Any],
        *,
        key: SigningKey | None = None,
        header: Mapping[str, Any] | None = None,
    ) -> str:
        """Returns a token with exactly these claims; `...` removes a member of the header."""
        key = key or self.key
        head: dict[str, Any] = {"alg": key.verifying.algorithm, "kid": key.verifying.kid}
        head = {name: it for name, it in (head | dict(header or {})).items() if it is not ...}
        return forgery.forge(head, dict(claims), key=key)

    def claims_of(self, visit: Mapping[str, str]) -> dict[str, Any]:
        """Returns the claims of the person who has logged in on a visit."""
        return self.claims

    def options(self, **changed: Any) -> dict[str, Any]:
        """Returns the options of a provider for this server."""
        given = {"issuer": self.url, "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
        return {name: value for name, value in (given | changed).items() if value is not None}

    def _authorize(self, query: dict[str, str]) -> Reply:
        code = secrets.token_urlsafe(16)
        self.visits[code] = query
        answer = {"code": code, "state": query["state"]}
        if self.sends_issuer:
            answer["iss"] = self.url
        location = f"{query['redirect_uri']}?{urlencode(answer)}"
        return Reply(b"", 302, {"location": location})

    def _token(self, form: dict[str, str]) -> Reply:
        visit = self.visits.pop(form.get("code", ""), None)
        if not self._is_client(form):
            return Reply({"error": "invalid_client"}, 401)
        if visit is None or not _is_of_visit(form, visit):
            return Reply({"error": "invalid_grant", "error_description": "\u00fc<script>"}, 400)
        now = int(time.time())
        claims = {
            "iss": self.url,
            "aud": CLIENT_ID,
            "iat": now,
            "exp": now + 600,
            "nonce": visit.get("nonce"),
            **({"auth_time": now} if "max_age" in visit else {}),
            **self.claims_of(visit),
        }
        present = {name: value for name, value in claims.items() if value is not None}
        answer = {
            "access_token": f"access-{secrets.token_hex(8)}",
            "token_type": "Bearer",
            "id_token": self.make_token(present),
            **self.token_response,
        }
        return Reply({name: value for name, value in answer.items() if value is not None})

    def _is_client(self, form: dict[str, str]) -> bool:
        pair = base64.b64encode(f"{CLIENT_ID}:{CLIENT_SECRET}".encode()).decode()
        by_form = (form.get("client_id"), form.get("client_secret")) == (CLIENT_ID, CLIENT_SECRET)
        return by_form or self.credentials[-1] == f"Basic {pair}"


def _is_of_visit(form: Mapping[str, str], visit: Mapping[str, str]) -> bool:
    digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
    challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    is_pkce = visit.get("code_challenge", challenge) == challenge
    return is_pkce and form.get("redirect_uri") == visit["redirect_uri"]
