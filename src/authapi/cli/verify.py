"""`authapi verify`: shows why a service with `RemoteJWT` accepts or rejects a token."""

import asyncio
import sys
from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated

import typer

from authapi.cli.terminal.options import JSONOption
from authapi.cli.terminal.tables import print_one, print_rows
from authapi.cli.terminal.texts import printable
from authapi.crypto.jws import CLIENT_CLAIMS, MAX_LENGTH
from authapi.errors import ConfigurationError
from authapi.outbound.http_client import HTTPClient, RequestFailed
from authapi.outbound.issuers.metadata import Published
from authapi.verify.claims import SCOPE_CLAIMS
from authapi.verify.diagnostics import Finding, diagnose
from authapi.verify.policy import ACCESS_TOKEN_TYPES, TokenPolicy, TrustedIssuer

_TIMEOUT = timedelta(seconds=5)
_MAX_TOKEN_BYTES = 1 << 20
_NO_TYPE = "none"


def verify(
    issuer: Annotated[str, typer.Option(help="URL of the issuer, exactly as in `iss`.")],
    audience: Annotated[list[str] | None, typer.Option(help="Accepted value of `aud`.")] = None,
    client_id: Annotated[list[str] | None, typer.Option(help="Accepted client id.")] = None,
    client_claim: Annotated[
        list[str] | None, typer.Option(help="Claim with the client id. [client_id, azp]")
    ] = None,
    require: Annotated[
        list[str] | None, typer.Option(metavar="NAME=TEXT", help="Required claim.")
    ] = None,
    tenant: Annotated[
        list[str] | None, typer.Option(help="Accepted {tenantid} of the issuer.")
    ] = None,
    jwks_url: Annotated[str | None, typer.Option(help="URL of the JWK set.")] = None,
    allow_http: Annotated[bool, typer.Option("--allow-http", help="Permit plain http.")] = False,
    type_: Annotated[
        list[str] | None, typer.Option("--type", help="Accepted `typ`; none: no `typ`.")
    ] = None,
    algorithm: Annotated[list[str] | None, typer.Option(help="Accepted `alg`.")] = None,
    leeway: Annotated[
        float | None, typer.Option(min=0, max=60, help="Clock tolerance in seconds.")
    ] = None,
    max_lifetime: Annotated[
        int | None, typer.Option(min=1, help="Longest exp - iat, in seconds.")
    ] = None,
    scope_claim: Annotated[
        list[str] | None, typer.Option(help="Claim or path of scopes. [scope, scp]")
    ] = None,
    max_credential_bytes: Annotated[
        int, typer.Option(min=1024, max=_MAX_TOKEN_BYTES, help="Longest token; as the setting.")
    ] = MAX_LENGTH,
    as_json: JSONOption = False,
    arguments: Annotated[list[str] | None, typer.Argument(hidden=True)] = None,
) -> None:
    """Show which checks of RemoteJWT the token on standard input passes.

    Options are the parameters of RemoteJWT and TokenPolicy; repeat an option for several values.
    The token is never printed. Exit with 0 if the token is accepted, else with 1.
    """
    if arguments:
        # Declared only to be rejected: the message of typer would print the token.
        raise ConfigurationError("the token is read from standard input, never an argument")
    policy = TokenPolicy(
        client_ids=tuple(client_id or ()),
        client_claims=tuple(client_claim or CLIENT_CLAIMS),
        required_claims=_parse_claims(require or ()),
        tenants=tuple(tenant or ()),
        jwks_url=jwks_url,
        allow_http=allow_http,
        types=tuple(None if kind == _NO_TYPE else kind for kind in type_ or ACCESS_TOKEN_TYPES),
        leeway=None if leeway is None else timedelta(seconds=leeway),
        max_lifetime=None if max_lifetime is None else timedelta(seconds=max_lifetime),
        scope_claims=tuple(scope_claim or SCOPE_CLAIMS),
        **({"algorithms": tuple(algorithm)} if algorithm else {}),
    )
    trusted = TrustedIssuer(issuer, audience or None, policy)
    token = _read_token(max_credential_bytes)
    try:
        key_set = asyncio.run(_fetch_keys(trusted)).keys
        keys = Finding("keys", bool(key_set), f"the issuer publishes {len(key_set)} usable key(s)")
    except (ConfigurationError, RequestFailed, TimeoutError) as error:
        key_set, cause = {}, str(error) or "no response in time"
        keys = Finding("keys", False, f"not available: {cause}")
    findings = [keys, *diagnose(token, key_set, trusted, max_length=max_credential_bytes)]
    accepted = all(finding.holds for finding in findings)
    _print(findings, accepted=accepted, as_json=as_json)
    if not accepted:
        raise typer.Exit(1)


def _parse_claims(texts: Sequence[str]) -> dict[str, str | int | bool]:
    claims: dict[str, str | int | bool] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise ConfigurationError("--require takes NAME=TEXT")
        claims[name] = value
    return claims


def _read_token(max_bytes: int) -> str:
    if sys.stdin.isatty():
        print("Enter the token, then Ctrl-D:", file=sys.stderr)
    # One byte more than permitted, to detect a longer token without reading all of it.
    data = sys.stdin.buffer.read(max_bytes + len("Bearer \n\n") + 1)
    text = data.decode("ascii", "replace").strip()
    scheme, space, rest = text.partition(" ")
    return rest.strip() if space and scheme.lower() == "bearer" else text


async def _fetch_keys(trusted: TrustedIssuer) -> Published:
    outgoing = HTTPClient(timeout=_TIMEOUT)
    try:
        async with asyncio.timeout(_TIMEOUT.total_seconds()):
            return await trusted.key_source(outgoing).read()
    finally:
        await outgoing.close()


def _print(findings: Sequence[Finding], *, accepted: bool, as_json: bool) -> None:
    rows: list[dict[str, object]] = [
        {
            "check": finding.check,
            "holds": finding.holds,
            "message": printable(finding.message),
        }
        for finding in findings
    ]
    if as_json:
        print_one({"accepted": accepted, "checks": rows}, as_json=True)
        return
    print_rows(rows)
    print(f"\nThe token is {'accepted' if accepted else 'rejected'}.")
