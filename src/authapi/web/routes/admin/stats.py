"""/admin/stats: numbers about the service."""

from fastapi import Request

from authapi.web.answers.descriptions import problems
from authapi.web.context import context_of
from authapi.web.routes.admin.gates import Superuser, router_for
from authapi.web.schemas.monitoring.statistics import StatisticsOut

router = router_for("/admin/stats")


@router.get("", responses=problems(401, 403, 404, 503))
async def read_stats(superuser: Superuser, request: Request) -> StatisticsOut:
    """Get the numbers of accounts, live logins, recent events, queued jobs and keys."""
    statistics = context_of(request).runtime.services.statistics
    return StatisticsOut.of(await statistics.counts())
