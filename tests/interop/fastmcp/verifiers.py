"""Verifies tokens with the verifiers of FastMCP: one JSON object from stdin, one to stdout.

Runs in its own virtual environment, because FastMCP requires other versions than the tests.
"""

import asyncio
import json
import sys
from typing import Any

from fastmcp.server.auth.providers.introspection import (  # type: ignore[import-not-found]  # installed for this script
    IntrospectionTokenVerifier,
)
from fastmcp.server.auth.providers.jwt import (  # type: ignore[import-not-found]  # the same
    JWTVerifier,
)


async def told(given: dict[str, Any]) -> dict[str, list[dict[str, Any] | None]]:
    """Returns, per verifier and token, the client and the claims, or None for a rejection."""
    introspection = {
        method: IntrospectionTokenVerifier(
            introspection_url=given["introspection_endpoint"],
            client_id=given["id"],
            client_secret=given["secret"],
            client_auth_method=method,
        )
        for method in ("client_secret_basic", "client_secret_post")
    }
    verifiers = introspection | {
        "jwt": JWTVerifier(
            jwks_uri=given["jwks_uri"],
            issuer=given["issuer"],
            audience="authapi",
            algorithm=given["algorithm"],
            required_scopes=["reports:read"],
        )
    }
    found: dict[str, list[dict[str, Any] | None]] = {}
    for name, verifier in verifiers.items():
        answers = [await verifier.verify_token(token) for token in given["tokens"]]
        found[name] = [
            answer and {"client_id": answer.client_id, "scopes": answer.scopes}
            for answer in answers
        ]
    return found


print(json.dumps(asyncio.run(told(json.load(sys.stdin)))))  # noqa: T201  # the test reads it
