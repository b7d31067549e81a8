"""The yardstick: the body of GET /me from a FastAPI route that knows nobody."""

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

BODY = (
    b'{"id":"01a20698-e353-7f96-9181-5ccc2ce09c9c","email":"alice@example.com","name":null,'
    b'"is_active":true,"is_superuser":false,"email_confirmed_at":null,'
    b'"created_at":"2026-11-23T04:10:12.691288Z","updated_at":"2026-11-23T04:10:12.691288Z"}'
)

app = FastAPI(openapi_url=None)


@app.get("/me")
async def me(request: Request) -> Response:
    """The same bytes to everybody."""
    return Response(BODY, media_type="application/json")
