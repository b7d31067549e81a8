"""For services that only trust: callers are recognised by what another issuer says of them.

    auth = ResourceServer(RemoteJWT(issuer="https://auth.example.com", audience="orders"))
    app = FastAPI(lifespan=auth.lifespan)
    auth.install(app)

    @app.get("/orders")
    async def orders(user: Annotated[User, Depends(current_user(scopes={"orders:read"}))]): ...

`RemoteJWT` verifies JWTs with the keys that their issuer publishes, `RemoteIntrospection` asks the
issuer about opaque tokens. There is no database and no secret; the gates are those of authapi. See
`docs/verify.md`.
"""

from authapi.settings import EdgeSettings
from authapi.verify.introspection import RemoteIntrospection
from authapi.verify.jwt import RemoteJWT
from authapi.verify.keys import KeyCache
from authapi.verify.server import ResourceServer

__all__ = ["EdgeSettings", "KeyCache", "RemoteIntrospection", "RemoteJWT", "ResourceServer"]
