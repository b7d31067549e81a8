"""Reports which checks a token of another issuer passes, for `authapi verify`.

`RemoteJWT` stops at the first failed check, and its response never names the check. `diagnose` runs
every check separately, for an operator who has the token. Messages contain the expected values and
those values of the token that the checks compare, never the token, its `sub` or other claims.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from authapi.clock import now
from authapi.crypto import jws
from authapi.crypto.jws import Check, UnverifiedToken, ValidationRules, VerifiedToken
from authapi.errors import TokenError, UnknownKey
from authapi.outbound.issuers.keys import KeySet
from authapi.verify.claims import ClaimsReader, nonempty_tuple
from authapi.verify.policy import TrustedIssuer

_MAX_SHOWN = 200


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check."""

    check: str
    holds: bool
    message: str


def diagnose(
    token: str, key_set: KeySet, trusted: TrustedIssuer, *, max_length: int
) -> Sequence[Finding]:
    """Runs every check on `token` with the keys of `key_set`. Never raises for a bad token.

    `RemoteJWT` accepts the token if every check holds.
    """
    expected = trusted.expected(max_length=max_length)
    try:
        parts = jws.parse(token, expected)
    except TokenError:
        message = f"not a JWT of at most {max_length} characters: {_describe_shape(token)}"
        return [Finding(Check.FORMAT, False, message)]
    try:
        claims = jws.parse_claims(parts)
    except TokenError:
        return [Finding(Check.FORMAT, False, "the claims are not an unambiguous JSON object")]
    return [
        Finding(Check.FORMAT, True, f"a JWT of {len(token)} characters"),
        *_check_header(parts, expected),
        *_check_claims(parts, claims, key_set, expected, trusted),
    ]


def _check_header(parts: UnverifiedToken, expected: ValidationRules) -> Iterator[Finding]:
    messages = {
        Check.HEADER: "no critical extensions",
        Check.TYPE: f"typ is {_show(parts.header, 'typ')}, expected {_join_or(expected.types)}",
        Check.ALGORITHM: (
            f"alg is {_show(parts.header, 'alg')}, expected {_join_or(expected.algorithms)}"
        ),
    }
    for check, holds in jws.HEADER_CHECKS:
        yield Finding(check, holds(parts, expected), messages[check])


def _check_claims(
    parts: UnverifiedToken,
    claims: Mapping[str, object],
    key_set: KeySet,
    expected: ValidationRules,
    trusted: TrustedIssuer,
) -> Iterator[Finding]:
    key = None
    try:
        key = jws.find_key(parts, key_set, expected)
    except UnknownKey as error:
        named = "has no kid" if "kid" not in parts.header else "has another kid"
        count = f"the issuer publishes {len(key_set)} usable key(s)"
        yield Finding(error.check, False, f"{count}, and the token {named}")
    except TokenError as error:
        name = Check.SIGNATURE if error.check == Check.SIGNATURE else Check.KEY
        yield Finding(name, False, _KEY_FAILURES[Check(error.check)])
    else:
        yield Finding(Check.SIGNATURE, True, f"valid with a published key, {key.algorithm}")
    # Claims are checked also if the signature is not valid, to report all problems at once.
    timestamp = now().timestamp()
    messages = _claim_messages(claims, expected, timestamp)
    for check, holds in jws.CLAIM_CHECKS:
        if check in messages:
            yield Finding(check, holds(claims, expected, timestamp), messages[check])
    if key is not None and key.issuer is not None and trusted.is_template:
        fits = jws.is_key_for_issuer(VerifiedToken(claims, key), expected)
        yield Finding(Check.KEY_ISSUER, fits, "the issuer in the JWK matches iss")
    yield _check_reading(claims, trusted)


_KEY_FAILURES = {
    Check.KEY: "kid is not a string, or missing although there are several keys",
    Check.ALGORITHM: "the key with this kid is not for this alg",
    Check.SIGNATURE: "not valid with the key of this kid",
}


def _claim_messages(
    claims: Mapping[str, object], expected: ValidationRules, timestamp: float
) -> Mapping[Check, str]:
    messages = {
        Check.IDENTIFIERS: "iss and sub must be printable ASCII strings",
        Check.ISSUER: f"iss is {_show(claims, 'iss')}, expected {expected.issuer}",
        Check.AUDIENCE: f"aud is {_show(claims, 'aud')}, expected {_show_audience(expected)}",
        Check.EXPIRY: _show_time(claims, "exp", timestamp, expected.leeway),
        Check.ISSUED: _show_time(claims, "iat", timestamp, expected.iat_leeway),
        Check.NOT_BEFORE: _show_time(claims, "nbf", timestamp, expected.nbf_leeway),
    }
    if expected.clients:
        found = ", ".join(f"{name} is {_show(claims, name)}" for name in expected.client_claims)
        messages[Check.CLIENT] = f"{found}, expected {_join_or(expected.clients)}"
    if expected.claims:
        messages[Check.REQUIRED] = f"{', '.join(expected.claims)} must have the required values"
    if expected.max_lifetime is not None:
        messages[Check.LIFETIME] = f"exp - iat must be at most {expected.max_lifetime} s"
    return messages


def _check_reading(claims: Mapping[str, object], trusted: TrustedIssuer) -> Finding:
    reader = ClaimsReader(
        "jwt",
        trusted.issuer,
        False,
        nonempty_tuple(trusted.policy.scope_claims, "scope_claims"),
    )
    try:
        identity = reader.read_identity(claims)
    except TokenError as error:
        return Finding("claims", False, f"{error.check} is malformed")
    return Finding("claims", True, f"{len(identity.scopes)} scope(s)")


def _show(members: Mapping[str, object], name: str) -> str:
    return "absent" if name not in members else _show_value(members[name])


def _show_value(value: object) -> str:
    # Strings and lists of strings only, cut to the length of one line.
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        value = " ".join(value) or "empty"
    if not isinstance(value, str):
        return "not a string"
    return value if len(value) <= _MAX_SHOWN else f"{value[:_MAX_SHOWN]}..."


def _join_or(values: object) -> str:
    if not isinstance(values, tuple | list):
        return ""
    return " or ".join("absent" if value is None else str(value) for value in values)


def _show_audience(expected: ValidationRules) -> str:
    return "absent" if expected.audiences is None else _join_or(expected.audiences)


def _show_time(claims: Mapping[str, object], name: str, timestamp: float, leeway: float) -> str:
    return f"{name} {_relative_time(claims, name, timestamp)}, leeway {leeway:g} s"


def _relative_time(claims: Mapping[str, object], name: str, timestamp: float) -> str:
    value = claims.get(name)
    if name not in claims:
        return "is absent"
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1e15:
        return "is not a time"
    seconds = round(value - timestamp)
    return f"is {seconds} s in the future" if seconds > 0 else f"was {-seconds} s ago"


def _describe_shape(token: str) -> str:
    """Describes the form of a token without repeating any of it."""
    count = token.count(".")
    if not token:
        return "the input is empty"
    if count == 4:
        return "five segments, as in an encrypted token (JWE)"
    if count != 2:
        return f"{count + 1} segment(s), {len(token)} characters"
    return f"three segments, {len(token)} characters, one of them malformed"
