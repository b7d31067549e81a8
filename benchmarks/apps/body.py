"""The body of every measured route, so that only authentication differs."""

BODY: dict[str, str] = {
    "id": "01a20698-e353-7f96-9181-5ccc2ce09c9c",
    "email": "alice@example.com",
    "plan": "basic",
}
"""88 bytes of JSON, serialized identically by FastAPI and Express."""

ME = (
    b'{"id":"01a20698-e353-7f96-9181-5ccc2ce09c9c","email":"alice@example.com","name":null,'
    b'"is_active":true,"is_superuser":false,"email_confirmed_at":null,'
    b'"created_at":"2026-11-23T04:10:12.691288Z","updated_at":"2026-11-23T04:10:12.691288Z"}'
)
"""As long as the body of GET /me of authapi for an account of the benchmark."""
