"""The yardstick: FastAPI routes that know nobody, without any middleware."""

from fastapi import FastAPI
from starlette.responses import Response

from benchmarks.apps.body import BODY, ME

app = FastAPI(openapi_url=None)


@app.get("/plain")
async def plain() -> dict[str, str]:
    """As an application would write it."""
    return BODY


@app.get("/me")
async def me() -> Response:
    """The bytes of GET /me, ready made: the hardest yardstick there is for that route."""
    return Response(ME, media_type="application/json")
