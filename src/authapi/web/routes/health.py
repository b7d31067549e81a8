"""/health: whether the process lives, and whether it can do its work."""

from fastapi import APIRouter, Request

from authapi.web.context import context_of
from authapi.web.openapi import problems
from authapi.web.routing import AuthAPIRoute
from authapi.web.schemas import HealthOut

router = APIRouter(route_class=AuthAPIRoute, tags=["health"], prefix="/health")


@router.get("/live")
async def live() -> HealthOut:
    """The process answers. Says nothing of the database: restarting would not bring it back."""
    return HealthOut(status="ok")


@router.get("/ready", responses=problems(503))
async def ready(request: Request) -> HealthOut:
    """The database answers too; 503 while it does not."""
    await context_of(request).runtime.services.database.ping()
    return HealthOut(status="ok")
