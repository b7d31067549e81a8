"""Apple (https://developer.apple.com/documentation/signinwithapplerestapi)."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from authapi.clock import now
from authapi.crypto import strict_json
from authapi.crypto.signatures.client_assertions import AssertionKey
from authapi.domain.federation.person import Person
from authapi.errors import ConfigurationError, UnsupportedKey
from authapi.outbound.upstreams.provider import Provider
from authapi.settings.federation.options import ProviderOptions

_LIFETIME = 300
"""Seconds that a client secret is valid. Apple allows six months, but a secret is made for each
request."""
_MAX_USER = 4096
_MAX_KEY_FILE = 65536
"""Bytes. A limit, because a path may name a device without an end."""


class Apple(Provider):
    """Apple answers by a POST, and says the name once, unsigned, at the first login.

    The constructor reads the private key.
    """

    title = "Apple"
    issuer = "https://appleid.apple.com"
    scopes = ("openid", "email", "name")
    proves_fresh_login = False
    response_mode = "form_post"
    wanted_claims = ()  # there is no userinfo endpoint
    special_options: ClassVar[frozenset[str]] = frozenset({"team_id", "key_id", "key_file"})
    required_options = ("client_id", "team_id", "key_id", "key_file")

    def __init__(self, options: ProviderOptions, *, name: str = "") -> None:
        """Raises ConfigurationError as `Provider`, and for a key that cannot be read or used."""
        super().__init__(options, name=name)
        if options.key_file is None:
            raise ConfigurationError(f"the provider {self.name} needs the option key_file")
        try:
            with options.key_file.open("rb") as file:
                pem = file.read(_MAX_KEY_FILE)
            self._key = AssertionKey(pem, kid=options.key_id or "")
        except OSError:
            raise ConfigurationError(f"the key_file of {self.name} cannot be read") from None
        except UnsupportedKey:
            raise ConfigurationError(
                f"the key_file of {self.name} has no private key for ES256 (.p8)"
            ) from None

    def client_secret(self) -> str | None:
        """Returns a client secret that is valid for five minutes."""
        issued = int(now().timestamp())
        return self._key.sign(
            {
                "iss": self.options.team_id,
                "iat": issued,
                "exp": issued + _LIFETIME,
                "aud": self.issuer,
                "sub": self.client_id,
            }
        )

    def person(self, claims: Mapping[str, Any], userinfo: Mapping[str, Any]) -> Person:
        """Reads the ID token, in which `email_verified` may be the text `true`."""
        person = super().person(claims, userinfo)
        verified = claims.get("email_verified")
        is_verified = person.email is not None and (verified is True or verified == "true")
        return replace(person, email_verified=is_verified, is_authoritative=is_verified)

    def name_of(self, user: str) -> str | None:
        """Returns the name in the parameter `user`, for display only: nothing signs it."""
        try:
            value = strict_json.loads(user[:_MAX_USER].encode("utf-8", "replace"))
        except ValueError:
            return None
        name = value.get("name") if isinstance(value, dict) else None
        if not isinstance(name, dict):
            return None
        parts = (name.get("firstName"), name.get("lastName"))
        return " ".join(part for part in parts if isinstance(part, str)) or None
