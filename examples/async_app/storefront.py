"""An application of its own beside the routes of authapi: authapi leaves its responses alone."""

from fastapi import FastAPI, Request
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse

from async_app.items import read_public_items

app = FastAPI(title="Storefront")
app.add_middleware(
    CORSMiddleware, allow_origins=["https://store.example"], allow_methods=["GET", "PUT"]
)
app.add_api_route("/items", read_public_items)


@app.exception_handler(404)
async def not_found(request: Request, _: Exception) -> JSONResponse:
    """Answers in the style of the storefront."""
    return JSONResponse({"sorry": f"there is no {request.url.path}"}, 404)


@app.put("/wishes/{title}")
async def wish(title: str) -> dict[str, str]:
    """Take a wish, from any visitor."""
    return {"wish": title}
