"""Reports: an application with a strategy of its own, for API keys in the header X-API-Key.

An API key is a personal access token of authapi: its owner creates it at `POST /me/tokens`, and
ends it at `DELETE /me/tokens/{id}`. The strategy only reads it from another header, for clients
that cannot set Authorization.
"""

from collections.abc import Mapping
from typing import Annotated

from fastapi import Depends, FastAPI
from starlette.requests import HTTPConnection

from authapi import (
    AuthAPI,
    Challenge,
    Identity,
    InvalidCredential,
    SecretHash,
    SessionKind,
    Settings,
    Strategy,
    User,
    current_user,
    hash_secret,
    is_opaque_token,
)


class APIKeyStrategy(Strategy[str]):
    """Authenticates requests by an API key in the header X-API-Key."""

    name = "api_key"

    def read(self, connection: HTTPConnection) -> str | None:
        keys = connection.headers.getlist("x-api-key")
        if len(keys) > 1:
            raise InvalidCredential
        return keys[0] if keys else None

    def cache_key(self, credential: str) -> SecretHash | None:
        return hash_secret(credential)

    async def authenticate(self, credential: str, connection: HTTPConnection) -> Identity:
        # The checksum of a token detects a typing error without a query.
        if not is_opaque_token(credential):
            raise InvalidCredential
        identity = await self.services.sessions.identify_by_secret(
            hash_secret(credential), SessionKind.TOKEN, strategy=self.name
        )
        if identity is None:
            raise InvalidCredential
        return identity

    def challenge(self) -> Challenge:
        return Challenge("ApiKey", {"realm": "reports"})

    def openapi(self) -> Mapping[str, object]:
        return {"type": "apiKey", "in": "header", "name": "X-API-Key"}


Reader = Annotated[User, Depends(current_user("api_key", scopes={"reports:read"}))]


def create_app() -> FastAPI:
    """Returns the application; its other settings are read from the environment."""
    settings = Settings(
        strategies=("session", "token", "jwt", f"{__name__}:APIKeyStrategy"),
        scopes={"reports:read": "Read the reports"},
    )
    auth = AuthAPI(settings)
    app = FastAPI(title="reports", lifespan=auth.lifespan, docs_url=None, redoc_url=None)
    auth.install(app)

    @app.get("/reports")
    async def reports(user: Reader) -> list[str]:
        """List the reports of the caller."""
        return [f"A report for {user.email}"]

    return app
