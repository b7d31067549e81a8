"""`authapi verify`: why a service with `RemoteJWT` accepts a token, or refuses it."""

import asyncio
import sys
from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated

import typer

from authapi.cli.running import JSONOption, print_one, print_rows, printable
from authapi.crypto.jws import CLIENT_CLAIMS, MAX_LENGTH
from authapi.errors import ConfigurationError
from authapi.verify.claims import SCOPE_CLAIMS
from authapi.verify.explanation import Finding, explain
from authapi.verify.metadata import Published
from authapi.verify.outgoing import Outgoing, Unreachable
from authapi.verify.policy import ACCESS_TOKEN_TYPES, TokenPolicy

_TIMEOUT = timedelta(seconds=5)
_LIMIT = 1 << 20
_NO_TYPE = "none"

Several = list[str]


def verify(
    issuer: Annotated[str, typer.Option(help="URL of the issuer, as `iss` has it.")],
    audience: Annotated[Several | None, typer.Option(help="Accepted in `aud`.")] = None,
    client_id: Annotated[Several | None, typer.Option(help="Accepted as the client.")] = None,
    client_claim: Annotated[
        Several | None, typer.Option(help="Where the client stands. [client_id, azp]")
    ] = None,
    require: Annotated[
        Several | None, typer.Option(metavar="NAME=TEXT", help="A claim with this text.")
    ] = None,
    tenant: Annotated[
        Several | None, typer.Option(help="Accepted as {tenantid} of the issuer.")
    ] = None,
    jwks_url: Annotated[str | None, typer.Option(help="Where the keys are.")] = None,
    allow_http: Annotated[bool, typer.Option("--allow-http", help="Permit plain http.")] = False,
    type_: Annotated[
        Several | None, typer.Option("--type", help="Accepted as `typ`; none: without it.")
    ] = None,
    algorithm: Annotated[Several | None, typer.Option(help="Accepted as `alg`.")] = None,
    leeway: Annotated[
        float | None, typer.Option(min=0, max=60, help="Seconds that clocks may differ.")
    ] = None,
    max_lifetime: Annotated[int | None, typer.Option(min=1, help="Seconds, at most.")] = None,
    scope_claim: Annotated[
        Several | None, typer.Option(help="Claims or paths of scopes. [scope, scp]")
    ] = None,
    max_credential_bytes: Annotated[
        int, typer.Option(min=1024, max=_LIMIT, help="The setting of that name.")
    ] = MAX_LENGTH,
    as_json: JSONOption = False,
    arguments: Annotated[Several | None, typer.Argument(hidden=True)] = None,
) -> None:
    """Say which checks of RemoteJWT the token on standard input passes.

    Options are the parameters of RemoteJWT; those that may be several are repeated. The token is
    never printed. Exits with 0 if it is accepted and with 1 if not.
    """
    if arguments:
        # Taken only to be refused: typer's own message would repeat it.
        raise ConfigurationError("the token is read from standard input, never an argument")
    policy = TokenPolicy(
        issuer=issuer,
        audience=audience or None,
        client_ids=tuple(client_id or ()),
        client_claims=tuple(client_claim or CLIENT_CLAIMS),
        required_claims=_claims(require or ()),
        tenants=tuple(tenant or ()),
        jwks_url=jwks_url,
        allow_http=allow_http,
        types=tuple(None if kind == _NO_TYPE else kind for kind in type_ or ACCESS_TOKEN_TYPES),
        leeway=None if leeway is None else timedelta(seconds=leeway),
        max_lifetime=None if max_lifetime is None else timedelta(seconds=max_lifetime),
        scope_claims=tuple(scope_claim or SCOPE_CLAIMS),
        **({"algorithms": tuple(algorithm)} if algorithm else {}),
    )
    token = _token(max_credential_bytes)
    try:
        ring = asyncio.run(_published(policy)).keys
        keys = Finding("keys", bool(ring), f"the issuer publishes {len(ring)} usable key(s)")
    except (ConfigurationError, Unreachable, TimeoutError) as error:
        ring, cause = {}, str(error) or "no answer in time"
        keys = Finding("keys", False, f"cannot be read: {cause}")
    findings = [keys, *explain(token, ring, policy, max_length=max_credential_bytes)]
    accepted = all(finding.holds for finding in findings)
    _print(findings, accepted=accepted, as_json=as_json)
    if not accepted:
        raise typer.Exit(1)


def _claims(texts: Sequence[str]) -> dict[str, str | int | bool]:
    found: dict[str, str | int | bool] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise ConfigurationError("--require takes NAME=TEXT")
        found[name] = value
    return found


def _token(max_bytes: int) -> str:
    if sys.stdin.isatty():
        print("The token, then Ctrl-D:", file=sys.stderr)
    # One more than may be: what is too long is told apart, and no more of it is read.
    data = sys.stdin.buffer.read(max_bytes + len("Bearer \n\n") + 1)
    text = data.decode("ascii", "replace").strip()
    scheme, space, rest = text.partition(" ")
    return rest.strip() if space and scheme.lower() == "bearer" else text


async def _published(policy: TokenPolicy) -> Published:
    outgoing = Outgoing(timeout=_TIMEOUT)
    try:
        async with asyncio.timeout(_TIMEOUT.total_seconds()):
            return await policy.key_source(outgoing).read()
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
    print_rows(rows, as_json=False)
    print(f"\nThe token is {'accepted' if accepted else 'refused'}.")
