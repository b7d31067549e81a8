"""authapi inside somebody's application: one route with `current_user`, the same without."""

from typing import Annotated

from fastapi import Depends, FastAPI

from authapi import AuthAPI, User, current_user
from benchmarks.apps.body import BODY

auth = AuthAPI()
app = FastAPI(lifespan=auth.lifespan)
auth.install(app)


@app.get("/plain")
async def plain() -> dict[str, str]:
    """Behind the same middleware as `guarded`."""
    return BODY


@app.get("/guarded")
async def guarded(user: Annotated[User, Depends(current_user())]) -> dict[str, str]:
    """Open to every strategy, as by default."""
    return BODY
