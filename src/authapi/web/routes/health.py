"""/health: liveness and readiness of the process; and the metrics for Prometheus."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from authapi.errors import NotFound
from authapi.services.schema import require_ready
from authapi.web.answers.descriptions import problems
from authapi.web.context import context_of
from authapi.web.routing import AuthAPIRoute
from authapi.web.schemas.health import HealthOut

router = APIRouter(route_class=AuthAPIRoute, tags=["health"], prefix="/health")


@router.get("/live")
async def live() -> HealthOut:
    """Check that the process is running.

    It does not check the database, because restarting the process would not repair it.
    """
    return HealthOut(status="ok")


@router.get("/ready", responses=problems(503))
async def ready(request: Request) -> HealthOut:
    """Check that the process can serve requests: 503 if the database is not available, or during
    shutdown.
    """
    await require_ready(context_of(request).runtime.services.database)
    return HealthOut(status="ok")


async def read_metrics(request: Request) -> Response:
    """The metrics in the format of Prometheus, at `metrics_path`."""
    metrics = context_of(request).runtime.services.metrics
    if metrics is None:
        raise NotFound
    return Response(metrics.render(), headers={"content-type": metrics.content_type})
