"""OAuth 2.0 endpoints: token, revocation, introspection, JWKS and metadata."""
