"""Google (https://developers.google.com/identity/openid-connect/openid-connect)."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from authapi.domain.federation.person import Person
from authapi.outbound.upstreams.provider import Provider


class Google(Provider):
    """Google decides whose an address is at gmail.com, and in the domains of its Workspace."""

    title = "Google"
    issuer = "https://accounts.google.com"
    proves_fresh_login = False  # `auth_time` is in its tokens only by arrangement

    def person(self, claims: Mapping[str, Any], userinfo: Mapping[str, Any]) -> Person:
        """Reads the standard claims; `hd` names the Workspace that the account belongs to."""
        person = super().person(claims, userinfo)
        source = claims if "email" in claims else userinfo
        is_gmail = str(person.email).lower().endswith("@gmail.com")
        has_workspace = isinstance(source.get("hd"), str) and bool(source["hd"])
        return replace(
            person, is_authoritative=person.email_verified and (is_gmail or has_workspace)
        )
