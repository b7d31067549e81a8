"""The application of `with_authapi` before authapi is installed: its open route alone."""

from fastapi import FastAPI

from benchmarks.apps.body import BODY

app = FastAPI()


@app.get("/plain")
async def plain() -> dict[str, str]:
    """The same route as in `with_authapi`."""
    return BODY
