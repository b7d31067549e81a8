"""`authapi verify`: reports each check, and never prints the token."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cli.conftest import Result, Run, failed_with_one_line
from tests.crypto import forgery
from tests.crypto.external_signers import public_jwk, signed
from tests.verify.issuer import METADATA, SUBJECT, Issuer, Reply

AUDIENCE = "orders"
CANARIES = ("canary-subject", "canary@example.com", "Canary Name", "canary-jti")


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with Issuer() as found:
        yield found


def token(issuer: Issuer, **changes: Any) -> str:
    """Returns a valid token, with claims that the output must not contain."""
    now = int(time.time())
    times = {"iat": now, "exp": now + 600}
    subject, email, name, jti = CANARIES
    claims = {"aud": AUDIENCE, "sub": subject, "email": email, "name": name, "jti": jti, **times}
    return issuer.token(**{**claims, **changes})


def verify_json(run: Run, issuer: Issuer, text: str, *options: str) -> tuple[int, dict[str, bool]]:
    """Returns the exit code, and whether each check holds."""
    done = verify(run, issuer, text, *options, "--json")
    document = json.loads(done.stdout)
    assert document["accepted"] is (done.returncode == 0)
    checks = {item["check"]: item["holds"] for item in document["checks"]}
    assert all(checks.values()) is document["accepted"]
    return done.returncode, checks


def verify(run: Run, issuer: Issuer, text: str, *options: str) -> Result:
    if "--audience" not in options and "--client-id" not in options:
        options = ("--audience", AUDIENCE, *options)
    done = run("verify", "--issuer", issuer.url, *options, text=text)
    shown = done.stdout + done.stderr
    assert "Traceback" not in shown
    for part in (*text.split("."), *CANARIES):
        assert len(part) < 8 or part not in shown
    return done


def test_valid_token_is_accepted(run: Run, issuer: Issuer) -> None:
    good = token(issuer)
    code, checks = verify_json(run, issuer, good)
    assert code == 0
    assert list(checks) == [
        *(
            "keys",
            "format",
            "header",
            "typ",
            "alg",
            "signature",
            "identifiers",
            "iss",
            "aud",
            "exp",
        ),
        *("iat", "nbf", "claims"),
    ]
    for text in (good + "\n", f"Bearer {good}\r\n", f"  bearer {good} \n"):
        assert verify_json(run, issuer, text)[0] == 0
    plain = verify(run, issuer, good)
    assert (plain.returncode, plain.stderr) == (0, "")
    assert plain.stdout.endswith("\nThe token is accepted.\n")
    assert f"iss is {issuer.url}, expected {issuer.url}" in plain.stdout


def test_each_failed_check_is_reported(run: Run, issuer: Issuer) -> None:
    now = int(time.time())
    for check, text in {
        "header": token(issuer, header={"crit": ["exp"]}),
        "typ": token(issuer, header={"typ": "JWT"}),
        "key": token(issuer, header={"kid": "other"}),
        "signature": token(issuer)[:-6] + "AAAAAA",
        "identifiers": token(issuer, sub="é"),
        "iss": token(issuer, iss="https://other.example"),
        "aud": token(issuer, aud=["a", "b"]),
        "exp": token(issuer, iat=now - 900, exp=now - 300),
        "iat": token(issuer, iat=now + 300),
        "nbf": token(issuer, nbf=now + 300),
        "claims": token(issuer, email=7),
    }.items():
        code, checks = verify_json(run, issuer, text)
        assert (code, [name for name, holds in checks.items() if not holds]) == (1, [check])
    many = token(issuer, aud="x", exp=now - 9, iat=now - 99, header={"typ": "JWT", "alg": "none"})
    _, checks = verify_json(run, issuer, many)
    failed = [name for name, holds in checks.items() if not holds]
    assert failed == ["typ", "alg", "key", "aud", "exp"]
    plain = verify(run, issuer, many)
    assert plain.returncode == 1
    assert "alg is none, expected ES256 or" in plain.stdout
    assert "aud is x, expected orders" in plain.stdout
    assert "exp was" in plain.stdout
    assert plain.stdout.endswith("\nThe token is rejected.\n")


@pytest.mark.parametrize(
    "text", ["", "\n", "opaque-token", "a.b.c", "a.b.c.d.e", "é.é.é", "x" * 300_000, "...." * 9000]
)
def test_malformed_token_fails_the_format_check(run: Run, issuer: Issuer, text: str) -> None:
    code, checks = verify_json(run, issuer, text)
    assert (code, checks) == (1, {"keys": True, "format": False})


def test_token_length_is_limited_by_max_credential_bytes(run: Run, issuer: Issuer) -> None:
    long = token(issuer, groups=["g" * 100] * 90)
    assert 8192 < len(long) < 32_768
    assert verify_json(run, issuer, long)[1]["format"] is False
    assert verify_json(run, issuer, long, "--max-credential-bytes", "32768")[0] == 0


def test_options_match_the_parameters_of_remote_jwt(run: Run, issuer: Issuer) -> None:
    issuer.publish(public_jwk("PS256", kid="k"))
    now = int(time.time())
    claims = {"iss": issuer.url, "sub": SUBJECT, "iat": now, "exp": now + 600, "cid": "app"}
    custom = signed("PS256", {"kid": "k"}, {**claims, "use": "access", "a": {"b": ["x", "y"]}})
    options = ("--client-id", "app", "--client-claim", "cid", "--type", "none", "--type", "JWT")
    more = ("--require", "use=access", "--scope-claim", "a.b", "--max-lifetime", "600")
    rest = ("--algorithm", "PS256", "--leeway", "5", "--jwks-url", f"{issuer.url}/keys")
    every = (*options, *more, *rest)
    done = verify(run, issuer, custom, *every)
    assert done.returncode == 0, done.stdout
    assert "2 scope(s)" in done.stdout
    assert issuer.asked[METADATA] == 0
    for others, check in (
        ((*every, "--client-id", "x", "--require", "use=id"), "required claims"),
        ((*every, "--max-lifetime", "599"), "lifetime"),
        (("--client-id", "x", "--client-claim", "cid", "--type", "none"), "client"),
        (("--client-id", "app", "--type", "none"), "client"),
        (("--client-id", "app", "--client-claim", "cid"), "typ"),
        ((*options[:4], "--type", "none", "--algorithm", "RS256"), "alg"),
    ):
        code, checks = verify_json(run, issuer, custom, *others)
        assert (code, checks[check]) == (1, False), check


def test_tenant_option_selects_tenants(run: Run, issuer: Issuer) -> None:
    tenant = "11111111-2222-3333-4444-555555555555"
    template = f"{issuer.url}/{{tenantid}}/v2.0"
    options = ("verify", "--issuer", template, "--audience", AUDIENCE)
    known = (*options, "--jwks-url", f"{issuer.url}/keys")
    good = token(issuer, iss=f"{issuer.url}/{tenant}/v2.0", tid=tenant)
    assert run(*known, text=good).returncode == 0
    assert run(*known, "--tenant", tenant, text=good).returncode == 0
    assert run(*known, "--tenant", tenant.replace("1", "2"), text=good).returncode == 1


def test_unavailable_issuer_is_reported(run: Run, issuer: Issuer) -> None:
    good = token(issuer)
    issuer.replies[METADATA] = Reply({"issuer": "https://other.example", "jwks_uri": "x"})
    done = verify(run, issuer, good)
    assert done.returncode == 1
    assert "names another issuer" in done.stdout
    issuer.away()
    code, checks = verify_json(run, issuer, good)
    assert (code, checks["keys"], checks["key"], checks["aud"]) == (1, False, False, True)


def test_control_characters_are_not_printed(run: Run, issuer: Issuer) -> None:
    text = token(issuer, aud="\x1b[31m" + "a" * 1000, header={"typ": "\x1b]0;x\x07"})
    for options in ((), ("--json",)):
        done = verify(run, issuer, text, *options)
        assert "\x1b" not in done.stdout
        assert "a" * 300 not in done.stdout


def test_invalid_options_are_one_line_errors(run: Run, issuer: Issuer) -> None:
    required = ("verify", "--issuer", "https://id.example")
    good = token(issuer)
    for options, expected in (
        (required, "audience"),
        ((*required, "--audience", "a", good), "standard input"),
        (("verify", "--issuer", "http://id.example", "--audience", "a"), "https"),
        ((*required, "--audience", "a", "--algorithm", "HS256"), "not supported"),
        ((*required, "--audience", "a", "--require", "x"), "NAME=TEXT"),
        ((*required, "--audience", "a", "--tenant", "x"), "tenants"),
    ):
        line = failed_with_one_line(run(*options, text=good))
        assert expected in line
        assert good not in line
    refused = run("verify", "--audience", "a", text=forgery.forge())
    assert (refused.returncode, refused.stdout) == (2, "")
