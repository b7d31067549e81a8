"""authapi in an application: one route with `current_user`, and the same without."""

from typing import Annotated

from fastapi import Depends, FastAPI

from authapi import AuthAPI, User, current_user
from benchmarks.apps.body import BODY

auth = AuthAPI()
app = FastAPI(lifespan=auth.lifespan)
auth.install(app)


@app.get("/plain")
async def plain() -> dict[str, str]:
    """A route without authentication."""
    return BODY


@app.get("/guarded")
async def guarded(user: Annotated[User, Depends(current_user())]) -> dict[str, str]:
    """A route for all strategies, which is the default."""
    return BODY
