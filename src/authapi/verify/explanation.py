"""Why a token of another issuer is accepted or refused, one check at a time.

`RemoteJWT` stops at the first check that fails, and answers every reason alike. This looks at each
check on its own, for the operator who holds the token. It says what was expected and, of the token,
only the values that the checks compare: never the token itself, its subject or other claims.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from authapi.clock import now
from authapi.crypto import jws
from authapi.crypto.jws import Check, Expected, Parts, Verified
from authapi.errors import TokenError, UnknownKey
from authapi.verify.claims import Reader, several
from authapi.verify.keys import Ring
from authapi.verify.policy import TokenPolicy

_LONGEST = 200


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check says of a token."""

    check: str
    holds: bool
    message: str


def explain(token: str, ring: Ring, policy: TokenPolicy, *, max_length: int) -> Sequence[Finding]:
    """Every check on `token` with the keys of `ring`; the token is good if each of them holds."""
    expected = policy.expected(max_length=max_length)
    try:
        parts = jws.split(token, expected)
    except TokenError:
        message = f"no JWT of at most {max_length} characters: {_shape(token)}"
        return [Finding(Check.FORMAT, False, message)]
    try:
        claims = jws.claims_of(parts)
    except TokenError:
        return [Finding(Check.FORMAT, False, "the claims are no JSON object of one meaning")]
    return [
        Finding(Check.FORMAT, True, f"a JWT of {len(token)} characters"),
        *_about_header(parts, expected),
        *_about_claims(parts, claims, ring, expected, policy),
    ]


def _about_header(parts: Parts, expected: Expected) -> Iterator[Finding]:
    texts = {
        Check.HEADER: "no critical extensions",
        Check.TYPE: f"typ is {_said(parts.header, 'typ')}, expected {_listed(expected.types)}",
        Check.ALGORITHM: (
            f"alg is {_said(parts.header, 'alg')}, expected {_listed(expected.algorithms)}"
        ),
    }
    for check, holds in jws.HEADER_CHECKS:
        yield Finding(check, holds(parts, expected), texts[check])


def _about_claims(
    parts: Parts, claims: Mapping[str, object], ring: Ring, expected: Expected, policy: TokenPolicy
) -> Iterator[Finding]:
    key = None
    try:
        key = jws.signing_key(parts, ring, expected)
    except UnknownKey as refusal:
        named = "names no key" if "kid" not in parts.header else "names another key"
        count = f"the issuer publishes {len(ring)} usable key(s)"
        yield Finding(refusal.check, False, f"{count}, and the token {named}")
    except TokenError as refusal:
        name = Check.SIGNATURE if refusal.check == Check.SIGNATURE else Check.KEY
        yield Finding(name, False, _KEY_FAILURES[Check(refusal.check)])
    else:
        yield Finding(Check.SIGNATURE, True, f"by a published key, with {key.algorithm}")
    # Claims are looked at all the same: what else is wrong saves a second try.
    moment = now().timestamp()
    texts = _claim_texts(claims, expected, moment)
    for check, holds in jws.CLAIM_CHECKS:
        if check in texts:
            yield Finding(check, holds(claims, expected, moment), texts[check])
    if key is not None and key.issuer is not None and policy.is_template:
        fits = jws.key_may_sign(Verified(claims, key), expected)
        yield Finding(Check.KEY_ISSUER, fits, "the issuer that the JWK names fits iss")
    yield _about_reading(claims, policy)


_KEY_FAILURES = {
    Check.KEY: "kid is no text, or the token names none of several keys",
    Check.ALGORITHM: "the key that the token names is not for its alg",
    Check.SIGNATURE: "not by the key that the token names",
}


def _claim_texts(
    claims: Mapping[str, object], expected: Expected, moment: float
) -> Mapping[Check, str]:
    found = {
        Check.NAMES: "iss and sub are printable ASCII text",
        Check.ISSUER: f"iss is {_said(claims, 'iss')}, expected {expected.issuer}",
        Check.AUDIENCE: f"aud is {_said(claims, 'aud')}, expected {_audience(expected)}",
        Check.EXPIRY: f"exp {_when(claims, 'exp', moment)}, leeway {expected.leeway:g} s",
        Check.ISSUED: f"iat {_when(claims, 'iat', moment)}, leeway {expected.iat_leeway:g} s",
        Check.NOT_BEFORE: f"nbf {_when(claims, 'nbf', moment)}, leeway {expected.nbf_leeway:g} s",
    }
    if expected.clients:
        said = ", ".join(f"{name} is {_said(claims, name)}" for name in expected.client_claims)
        found[Check.CLIENT] = f"{said}, expected {_listed(expected.clients)}"
    if expected.claims:
        found[Check.REQUIRED] = f"{', '.join(expected.claims)} as required"
    if expected.max_lifetime is not None:
        found[Check.LIFETIME] = f"exp - iat, at most {expected.max_lifetime} s"
    return found


def _about_reading(claims: Mapping[str, object], policy: TokenPolicy) -> Finding:
    reader = Reader("jwt", policy.issuer, False, several(policy.scope_claims, "scope_claims"))
    try:
        identity = reader.identity(claims)
    except TokenError as refusal:
        return Finding("claims", False, f"{refusal.check} is not written as its standard says")
    return Finding("claims", True, f"{len(identity.scopes)} scope(s)")


def _said(members: Mapping[str, object], name: str) -> str:
    return "absent" if name not in members else _shown(members[name])


def _shown(value: object) -> str:
    # Texts and lists of texts only, and no more of them than a line takes.
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        value = " ".join(value) or "empty"
    if not isinstance(value, str):
        return "no text"
    return value if len(value) <= _LONGEST else f"{value[:_LONGEST]}..."


def _listed(values: object) -> str:
    if not isinstance(values, tuple | list):
        return ""
    return " or ".join("absent" if value is None else str(value) for value in values)


def _audience(expected: Expected) -> str:
    return "absent" if expected.audiences is None else _listed(expected.audiences)


def _when(claims: Mapping[str, object], name: str, moment: float) -> str:
    value = claims.get(name)
    if name not in claims:
        return "is absent"
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1e15:
        return "is no time"
    seconds = round(value - moment)
    return f"lies {seconds} s ahead" if seconds > 0 else f"was {-seconds} s ago"


def _shape(token: str) -> str:
    """What kind of text this is, without any of it."""
    count = token.count(".")
    if not token:
        return "there is nothing"
    if count == 4:
        return "five segments, as encrypted tokens (JWE) have them"
    if count != 2:
        return f"{count + 1} segment(s), of {len(token)} characters together"
    return f"three segments of {len(token)} characters, of which one cannot be read"
