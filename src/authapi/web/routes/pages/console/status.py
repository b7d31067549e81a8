"""/console/status: what the checks found, versions, numbers and settings."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from starlette.responses import Response

from authapi.domain.monitoring.statistics import HOURS, EventCounts
from authapi.settings.descriptions import changed_settings, described_settings
from authapi.web.routes.pages.console.caller import Administrator, router_for, shown

router = router_for("/status")

_ALL = "settings"
"""The value of `show` with which the page lists all settings, and nothing else."""
_SLOT: Final = 10
"""The width of an hour in the chart, with a bar for each of two counts."""
_BAR: Final = 4
_HEIGHT: Final = 60


@dataclass(frozen=True, slots=True)
class Sparkline:
    """The bars of sign-ins and refused sign-ins by hour, as paths of SVG."""

    sign_ins: str
    refused: str
    highest: int
    """The count that the highest bar stands for."""
    width: int = HOURS * _SLOT
    height: int = _HEIGHT

    @classmethod
    def of(cls, counts: EventCounts) -> "Sparkline":
        """Returns the bars of these hours, the oldest first."""
        highest = max(max(hour.sign_ins, hour.refused_sign_ins) for hour in counts.by_hour)
        return cls(
            sign_ins=_bars([hour.sign_ins for hour in counts.by_hour], highest, at=1),
            refused=_bars([hour.refused_sign_ins for hour in counts.by_hour], highest, at=1 + _BAR),
            highest=highest,
        )


def _bars(counts: Sequence[int], highest: int, *, at: int) -> str:
    paths = []
    for number, count in enumerate(counts):
        if count:
            # A count that is not zero is visible beside one that is much higher.
            height = max(1, round(_HEIGHT * count / highest))
            x = number * _SLOT + at
            paths.append(f"M{x} {_HEIGHT}v-{height}h{_BAR}v{height}z")
    return "".join(paths)


@shown(router, "")
async def show_status(caller: Administrator) -> Response:
    """Show how the service does; with `show=settings`, all of its settings."""
    settings = caller.services.settings
    described = {name: as_text(value) for name, value in described_settings(settings).items()}
    if caller.request.query_params.get("show") == _ALL:
        return caller.render("console-settings", kept=("show",), settings=described)
    diagnose, statistics = caller.runtime.diagnose, caller.services.statistics
    report = None if diagnose is None else await diagnose()
    numbers = await statistics.recent()
    return caller.render(
        "console-status",
        report=report,
        versions_of=await statistics.versions(),
        numbers=numbers,
        chart=Sparkline.of(numbers.events),
        settings={name: described[name] for name in changed_settings(settings)},
        all_settings=caller.address("status", show=_ALL),
    )


def as_text(value: object) -> str:
    """Returns the value of a setting for people; an empty text if it has none."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return json.dumps(value, ensure_ascii=False, default=_as_list)
    if isinstance(value, frozenset):
        return ", ".join(sorted(map(str, value)))
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value)


def _as_list(value: object) -> object:
    return sorted(map(str, value)) if isinstance(value, frozenset) else str(value)
