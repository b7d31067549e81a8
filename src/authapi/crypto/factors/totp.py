"""Time-based one-time passwords (RFC 6238): HMAC-SHA-1, six digits, steps of 30 seconds.

Authenticator apps ignore other parameters, so there are none.
"""

import base64
import hmac
import re
import secrets
from urllib.parse import quote, urlencode

PERIOD = 30
"""Seconds of a time step."""
DIGITS = 6
_SECRET_BYTES = 20
"""The length of the hash, which RFC 4226 recommends (section 4, R6)."""
_CODE = re.compile(f"[0-9]{{{DIGITS}}}")
_WINDOW = 1
"""Steps before and after the current one whose codes are accepted, for clocks that differ."""


def new_totp_secret() -> bytes:
    """Returns 160 random bits."""
    return secrets.token_bytes(_SECRET_BYTES)


def code_at(secret: bytes, step: int) -> str:
    """Returns the code of a time step (RFC 4226, section 5.3)."""
    digest = hmac.digest(secret, step.to_bytes(8), "sha1")
    offset = digest[-1] & 0xF
    number = int.from_bytes(digest[offset : offset + 4]) & 0x7FFF_FFFF
    return f"{number % 10**DIGITS:0{DIGITS}}"


def clean_code(text: str) -> str | None:
    """Returns the code that a person typed, without spaces; None unless it is six ASCII digits."""
    digits = text.replace(" ", "")
    return digits if _CODE.fullmatch(digits) else None


def step_at(timestamp: float) -> int:
    """Returns the time step at a Unix time."""
    return int(timestamp // PERIOD)


def matching_steps(secret: bytes, code: str, timestamp: float) -> list[int]:
    """Returns the steps around a Unix time whose code is `code`, in increasing order.

    All codes are compared, in constant time. A code can belong to several steps.
    """
    current = step_at(timestamp)
    return [
        step
        for step in range(current - _WINDOW, current + _WINDOW + 1)
        if step >= 0 and hmac.compare_digest(code_at(secret, step), code)
    ]


def as_base32(secret: bytes) -> str:
    """Returns the secret as people type it into an app: base32 without padding (RFC 4648)."""
    return base64.b32encode(secret).decode().rstrip("=")


def key_uri(secret: bytes, *, issuer: str, account: str) -> str:
    """Returns the `otpauth:` URI that authenticator apps read from a QR code."""
    label = f"{quote(issuer, safe='')}:{quote(account, safe='@')}"
    parameters = {
        "secret": as_base32(secret),
        "issuer": issuer,
        "algorithm": "SHA1",
        "digits": DIGITS,
        "period": PERIOD,
    }
    return f"otpauth://totp/{label}?{urlencode(parameters, quote_via=quote)}"
