"""The model of health checks."""

from typing import Literal

from authapi.web.schemas.fields import Output


class HealthOut(Output):
    """The result of a health check."""

    status: Literal["ok"]
