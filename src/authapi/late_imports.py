"""Imports of what few requests need, at the first of them and not on the event loop.

An import takes up to a second, in which the event loop would answer no other request. A process in
which no request needs a module saves its memory.
"""

import asyncio
from contextlib import suppress
from importlib import import_module

_imported = set[str]()
"""Modules that are imported completely. `sys.modules` has those whose import has begun too."""


async def import_in_thread(*names: str) -> None:
    """Imports modules in a thread, unless they are imported already.

    A module that cannot be imported is left to the code that needs it.
    """
    missing = [name for name in names if name not in _imported]
    if not missing:
        return
    try:
        await asyncio.to_thread(_import, missing)
    except RuntimeError:  # no thread can be started
        _import(missing)


def _import(names: list[str]) -> None:
    for name in names:
        with suppress(ImportError):
            import_module(name)
        _imported.add(name)
