"""What every route under load answers, so that only recognising the caller differs."""

BODY: dict[str, str] = {
    "id": "01a20698-e353-7f96-9181-5ccc2ce09c9c",
    "email": "alice@example.com",
    "plan": "basic",
}
"""88 bytes as JSON, as FastAPI and Express both write it."""

ME = (
    b'{"id":"01a20698-e353-7f96-9181-5ccc2ce09c9c","email":"alice@example.com","name":null,'
    b'"is_active":true,"is_superuser":false,"email_confirmed_at":null,'
    b'"created_at":"2026-11-23T04:10:12.691288Z","updated_at":"2026-11-23T04:10:12.691288Z"}'
)
"""As long as what authapi's GET /me answers about the account of the benchmark."""
