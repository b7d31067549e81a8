"""Authentication for resource servers: applications that accept the tokens of another issuer.

    auth = ResourceServer(RemoteJWT(issuer="https://auth.example.com", audience="orders"))
    app = FastAPI(lifespan=auth.lifespan)
    auth.install(app)

    @app.get("/orders")
    async def orders(user: Annotated[User, Depends(current_user(scopes={"orders:read"}))]): ...

`RemoteJWT` verifies JWTs with the keys that their issuer publishes. `RemoteIntrospection` asks the
issuer about opaque tokens (RFC 7662). A resource server has no database and no secret. Routes are
protected with the same dependencies as in an application that issues tokens. See `docs/verify.md`.
"""

from authapi.outbound.issuers.keys import KeyCache
from authapi.settings import EdgeSettings
from authapi.verify.introspection import RemoteIntrospection
from authapi.verify.jwt import RemoteJWT
from authapi.verify.policy import TokenPolicy
from authapi.verify.server import ResourceServer

__all__ = [
    "EdgeSettings",
    "KeyCache",
    "RemoteIntrospection",
    "RemoteJWT",
    "ResourceServer",
    "TokenPolicy",
]
