"""The baseline: FastAPI routes without authentication and middleware."""

from fastapi import FastAPI
from starlette.responses import Response

from benchmarks.apps.body import BODY, ME

app = FastAPI(openapi_url=None)


@app.get("/plain")
async def plain() -> dict[str, str]:
    """A route as in any application."""
    return BODY


@app.get("/me")
async def me() -> Response:
    """Returns the prepared bytes of GET /me: the fastest possible baseline for that route."""
    return Response(ME, media_type="application/json")
