"""Naver (https://developers.naver.com/docs/login/api/api.md)."""

from collections.abc import Mapping
from typing import Any, ClassVar

from authapi.domain.federation.person import Person
from authapi.outbound.upstreams.identifiers import members
from authapi.outbound.upstreams.provider import Provider

_HOST = "https://nid.naver.com"


class Naver(Provider):
    """Naver has no ID tokens here, and never says whether an address is verified."""

    title = "Naver"
    issuer = _HOST
    """A constant of ours: its answers have no issuer."""
    scopes = ()  # what people share is chosen in the settings of the application at Naver
    authorization_url = f"{_HOST}/oauth2.0/authorize"
    token_url = f"{_HOST}/oauth2.0/token"
    userinfo_url = "https://openapi.naver.com/v1/nid/me"
    has_id_token = False
    repeats_state = True
    special_options: ClassVar[frozenset[str]] = frozenset()
    required_options = ("client_id", "client_secret")

    def person(self, claims: Mapping[str, Any], userinfo: Mapping[str, Any]) -> Person:
        """Takes everything from `response`. Raises ValueError for a `resultcode` of an error."""
        if userinfo.get("resultcode") != "00":
            raise ValueError("an error of the API")
        response = members(userinfo.get("response"))
        return Person(
            provider=self.name,
            issuer=self.issuer,
            subject=response["id"],
            email=response.get("email"),
            name=response.get("name") or response.get("nickname"),
            claims=response,
        )
