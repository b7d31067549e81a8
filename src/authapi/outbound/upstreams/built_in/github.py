"""GitHub (https://docs.github.com/apps/oauth-apps/building-oauth-apps/authorizing-oauth-apps)."""

from collections.abc import Mapping
from typing import Any, ClassVar

from authapi.domain.federation.person import Person
from authapi.outbound.upstreams.identifiers import digits
from authapi.outbound.upstreams.provider import Provider

_API = "https://api.github.com/user"


class GitHub(Provider):
    """GitHub has no ID tokens.

    The number of an account identifies it; its name may be given to another account later.
    """

    title = "GitHub"
    issuer = "https://github.com/login/oauth"
    """What its answers have as `iss`."""
    scopes = ("read:user", "user:email")
    authorization_url = "https://github.com/login/oauth/authorize"
    token_url = "https://github.com/login/oauth/access_token"
    userinfo_url = _API
    has_id_token = False
    special_options: ClassVar[frozenset[str]] = frozenset({"trust_email", "emails_url"})
    required_options = ("client_id", "client_secret")

    def person(self, claims: Mapping[str, Any], userinfo: Mapping[str, Any]) -> Person:
        """Takes the primary address, whose state only the list of addresses tells."""
        emails = userinfo.get("emails")
        primary: Mapping[str, Any] = next(
            (
                entry
                for entry in (emails if isinstance(emails, list) else ())
                if isinstance(entry, dict) and entry.get("primary") is True
            ),
            {},
        )
        is_verified = primary.get("verified") is True
        return Person(
            provider=self.name,
            issuer=self.issuer,
            subject=digits(userinfo["id"]),
            email=primary.get("email"),
            email_verified=is_verified,
            is_authoritative=is_verified and self.options.trust_email,
            name=userinfo.get("name"),
            claims=userinfo,
        )

    @property
    def further_urls(self) -> Mapping[str, str]:
        """The list of addresses."""
        return {"emails": self.options.emails_url or f"{_API}/emails?per_page=100"}
