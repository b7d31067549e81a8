"""/console, which leads to the people, and every other path and method below it.

The routes for any method come last: they answer what no page does, as a path without a page is
answered, so that the methods and the paths of the console tell nothing to others.
"""

from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from authapi.errors import NotFound
from authapi.web.pages.addresses import CONSOLE
from authapi.web.pages.rendering import see_other
from authapi.web.routes.pages.console.caller import Administrator, router_for, shown

router = router_for()


@shown(router, "")
async def show_entry(caller: Administrator) -> Response:
    """Lead to the people."""
    return see_other(caller.address("people"))


class _Nothing:
    """Raises NotFound. As a class, so that its routes take any method."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        raise NotFound


router.routes += [Route(CONSOLE, _Nothing()), Route(f"{CONSOLE}/{{path:path}}", _Nothing())]
