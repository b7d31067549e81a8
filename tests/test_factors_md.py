"""docs/factors.md: its commands print the documented output, and its tables match the code."""

import re
from datetime import timedelta
from pathlib import Path

from authapi import AuthAPI, Settings
from authapi.domain.events import EventType
from authapi.domain.factors.values import FactorMethod
from authapi.errors import LoginExpired, SecondFactorRefused, TooManyAttempts
from authapi.services.factors import proofs, totp
from authapi.services.logins import complete
from authapi.services.mail import MailKind
from authapi.web.login_cookie import browser_cookie
from tests.console import run_page
from tests.test_readme import ROOT, comparable, service

__all__ = ["service"]

PATH = ROOT / "docs" / "factors.md"
PAGE = PATH.read_text(encoding="utf-8")
_VARYING = (
    (re.compile(r"[2-7A-Z]{32}"), "SECRET"),
    (re.compile(r"<svg .*</svg>"), "SVG"),
    (re.compile(r'"[0-9A-HJKMNP-TV-Z]{4}(-[0-9A-HJKMNP-TV-Z]{4}){3}"'), "CODE"),
    (re.compile(r'"ticket": "[\w-]{43}"'), "TICKET"),
)


def plain(text: str) -> str:
    """Removes the parts of `text` that differ between runs."""
    for pattern, word in _VARYING:
        text = pattern.sub(word, text)
    return comparable(text)


def table(heading: str) -> list[list[str]]:
    """The rows of the first table below a heading."""
    part = PAGE.partition(f"\n## {heading}\n")[2].partition("\n|---")[2]
    rows = part.split("\n\n")[0].splitlines()[1:]
    return [[cell.strip() for cell in row[1:-1].split("|")] for row in rows]


def test_commands_print_the_documented_output(service: str, tmp_path: Path) -> None:
    ran = run_page(PAGE, service, tmp_path)
    for command, expected, output in ran:
        assert plain(output) == plain(expected), command
    assert len(ran) == 24


def test_the_answers_of_the_second_step_are_refusals() -> None:
    codes = re.findall(r"^\| (\d+) `(\w+)` \|", PAGE, re.MULTILINE)
    assert [code for _, code in codes] == [
        SecondFactorRefused.code,
        LoginExpired.code,
        TooManyAttempts.code,
    ]


def test_the_settings_have_the_documented_defaults() -> None:
    rows = {name.strip("`"): default.strip("`") for name, default, _ in table("Settings")}
    settings = Settings()
    described = {"AUTHAPI_TOTP_ISSUER", "AUTHAPI_LOGIN_TICKET_LIFETIME"}
    described |= {"AUTHAPI_MFA_REQUIRED_ROLES", "AUTHAPI_MFA_REQUIRED_SUPERUSERS"}
    for name, default in rows.items():
        value = getattr(settings, name.removeprefix("AUTHAPI_").lower())
        assert name in described or str(value) == default, name
    assert rows["AUTHAPI_LOGIN_TICKET_LIFETIME"] == "5 minutes"
    assert settings.login_ticket_lifetime == timedelta(minutes=5)
    assert settings.totp_issuer is None
    assert (settings.mfa_required_roles, settings.mfa_required_superusers) == ((), False)
    words = ("mfa", "totp", "ticket", "recovery", "second_factor")
    found = {name for name in Settings.model_fields if any(word in name for word in words)}
    assert {f"AUTHAPI_{name.upper()}" for name in found} == rows.keys()


def test_the_documented_numbers_are_those_of_the_code() -> None:
    assert complete.MAX_ATTEMPTS == totp.MAX_ATTEMPTS == 5
    assert "at most five codes" in PAGE
    assert timedelta(minutes=10) == totp.LIFETIME
    assert "within ten minutes" in PAGE
    assert proofs.MAX_FAILURES == 100
    assert "After 100 wrong codes in a row" in PAGE


def test_events_mails_and_methods_are_those_of_the_code() -> None:
    kinds = {"factor_added", "factor_removed", "recovery_codes_made", "recovery_code_used"}
    kinds |= {"second_factor_refused", "factors_reset"}
    words = ("factor", "recovery_code")
    for names in (EventType, MailKind):
        assert {name.value for name in names if any(word in name for word in words)} == kinds
    assert all(PAGE.count(f"`{kind}`") == 2 for kind in kinds - {"second_factor_refused"})
    assert {method.value for method in FactorMethod} == {"totp", "passkey", "recovery"}
    assert "by `method` (`totp`, `passkey`, `recovery`)" in PAGE
    assert callable(AuthAPI.prove_second_factor)


def test_the_cookie_has_the_documented_name() -> None:
    [(_, plain_http)] = browser_cookie("x", Settings())
    [(_, over_tls)] = browser_cookie("x", Settings(public_url="https://auth.example.com"))
    for cookie in (plain_http, over_tls):
        assert f"`{cookie.partition('=')[0]}`" in PAGE


def test_links_are_valid() -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", PAGE):
        assert (PATH.parent / target).exists(), target
