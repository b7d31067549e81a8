"""Kakao (https://developers.kakao.com/docs/latest/en/kakaologin/rest-api)."""

from collections.abc import Mapping
from typing import Any

from authapi.domain.federation.person import Person
from authapi.outbound.upstreams.identifiers import digits, members
from authapi.outbound.upstreams.provider import Provider


class Kakao(Provider):
    """The ID tokens of Kakao do not say whether an address is verified; its API does.

    OpenID Connect must be on in the settings of the application at Kakao. Many people share no
    address.
    """

    title = "Kakao"
    issuer = "https://kauth.kakao.com"
    scopes = ("openid", "account_email", "profile_nickname")
    userinfo_url = "https://kapi.kakao.com/v2/user/me"
    proves_fresh_login = False
    wanted_claims = ("kakao_account",)  # never in the ID token, so the API is always asked

    def person(self, claims: Mapping[str, Any], userinfo: Mapping[str, Any]) -> Person:
        """Takes the address and its state from the API."""
        account = members(userinfo.get("kakao_account"))
        is_verified = (
            account.get("is_email_valid") is True and account.get("is_email_verified") is True
        )
        return Person(
            provider=self.name,
            issuer=claims["iss"],
            subject=claims["sub"],
            email=account.get("email"),
            email_verified=is_verified,
            is_authoritative=is_verified,
            name=members(account.get("profile")).get("nickname") or claims.get("nickname"),
            claims={**userinfo, **claims},
        )

    def userinfo_subject(self, userinfo: Mapping[str, Any]) -> object:
        """The id of the API, a number, is the subject of the ID token, a text."""
        return digits(userinfo.get("id"))
