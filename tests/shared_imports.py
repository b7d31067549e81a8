"""Divides the compilation of test modules between the workers of a run.

pytest rewrites the assertions of each test module when a process imports it for the first time, and
stores the result in `__pycache__`. Workers start together and import modules in the same order, so
in a fresh clone each of them would compile all modules: ten seconds. With this plugin, each begins
at another module; when it arrives at the modules of another worker, they are compiled.
"""

import sys
from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from pathlib import Path

import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    config = session.config
    worker: dict[str, object] | None = getattr(config, "workerinput", None)
    is_whole = config.args_source is pytest.Config.ArgsSource.TESTPATHS
    if worker is None or not is_whole or sys.dont_write_bytecode:
        return
    number, count = int(str(worker["workerid"]).removeprefix("gw")), int(str(worker["workercount"]))
    modules = list(_test_modules(config.rootpath))
    for name in modules[len(modules) * number // count :]:
        with suppress(Exception):  # the collection reports it
            import_module(name)


def _test_modules(root: Path) -> Iterator[str]:
    for path in sorted((root / "tests").rglob("test_*.py")):
        yield ".".join(path.relative_to(root).with_suffix("").parts)
