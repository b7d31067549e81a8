"""Builds the OAuth metadata of this installation (RFC 8414, RFC 9728)."""

from authapi.domain.scopes import INTROSPECT, supported_scopes
from authapi.strategies.base import Issuer
from authapi.web.challenges import is_bearer
from authapi.web.context import Runtime
from authapi.web.routes.oauth.clients import METHODS, has_clients
from authapi.web.routes.oauth.grants import supported_grants
from authapi.web.schemas.oauth import AuthorizationServer, ProtectedResource


def authorization_server(runtime: Runtime) -> AuthorizationServer:
    """The metadata of the authorization server. It contains only installed endpoints."""
    issuer, units = runtime.settings.issuer, runtime.units
    grants = list(supported_grants(runtime)) if "grants" in units else []
    # Public clients have no secret (RFC 6749, section 2.1).
    public = ["none"]
    return AuthorizationServer(
        issuer=issuer,
        jwks_uri=f"{issuer}/.well-known/jwks.json",
        token_endpoint=f"{issuer}/token" if grants else None,
        token_endpoint_auth_methods_supported=public if grants else None,
        grant_types_supported=grants,
        response_types_supported=[],
        revocation_endpoint=f"{issuer}/token/revoke" if "revocation" in units else None,
        revocation_endpoint_auth_methods_supported=public if "revocation" in units else None,
        introspection_endpoint=f"{issuer}/token/introspect" if "introspection" in units else None,
        introspection_endpoint_auth_methods_supported=(
            _introspection_auth_methods(runtime) if "introspection" in units else None
        ),
        scopes_supported=_scopes(runtime),
        service_documentation=_documentation(runtime),
    )


def protected_resource(runtime: Runtime, name: str) -> ProtectedResource:
    """The metadata of the protected resource, with the human-readable `name`.

    The resource is the whole application, so its URL is without the prefix of authapi. The
    authorization servers are this service and the issuers that strategies trust. The document has
    no `jwks_uri`, because that names keys that the resource signs responses with.
    """
    issuer = runtime.settings.issuer
    servers = [
        item.authorization_server or issuer
        for item in runtime.registry
        if item.authorization_server or (isinstance(item, Issuer) and is_bearer(item.challenge()))
    ]
    return ProtectedResource(
        resource=runtime.settings.base_url,
        authorization_servers=list(dict.fromkeys(servers)) or None,
        bearer_methods_supported=["header"] if _accepts_bearer_tokens(runtime) else [],
        scopes_supported=_scopes(runtime),
        resource_name=name,
        resource_documentation=_documentation(runtime),
    )


def _accepts_bearer_tokens(runtime: Runtime) -> bool:
    return any(is_bearer(strategy.challenge()) for strategy in runtime.registry)


def _introspection_auth_methods(runtime: Runtime) -> list[str] | None:
    methods = list(METHODS) if has_clients(runtime) else []
    # RFC 8414, section 2, allows access token types as methods.
    return [*methods, "Bearer"] if _accepts_bearer_tokens(runtime) else methods or None


def _scopes(runtime: Runtime) -> list[str] | None:
    scopes = dict(supported_scopes(runtime.settings))
    if "introspection" not in runtime.units and INTROSPECT not in runtime.settings.scopes:
        del scopes[INTROSPECT]
    return list(scopes) or None


def _documentation(runtime: Runtime) -> str | None:
    return f"{runtime.settings.issuer}/docs" if "docs" in runtime.units else None
