"""Whole journeys through the pages: with JavaScript and without it, wide and narrow, light and
dark, in English and Korean. After each step, axe finds nothing, and the console is empty.

`make test-slow` has each journey with each pair of these values, `make test-matrix` with all.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from playwright.sync_api import Browser

from tests.browser.installations import Installation, installed
from tests.browser.journeys import accounts, administration, arrivals, factors
from tests.browser.journeys.stage import SETTINGS, Journey, Kind, Stage
from tests.browser.looks import Look, rows
from tests.browser.montage import Album
from tests.browser.tab import browsers

pytestmark = pytest.mark.browser

JOURNEYS: dict[str, Journey] = {
    it.__name__: it
    for module in (arrivals, accounts, factors, administration)
    for it in module.JOURNEYS
}
ROWS = rows(list(JOURNEYS), factors.NEED_SCRIPT)


@pytest.fixture(scope="module")
def installation(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[[Kind], Installation]]:
    """The services, each started when the first journey needs it."""
    running: dict[Kind, Installation] = {}
    with ExitStack() as stack:

        def started(kind: Kind) -> Installation:
            if kind not in running:
                folder = tmp_path_factory.mktemp(kind)
                running[kind] = stack.enter_context(installed(folder, **SETTINGS[kind]))
            return running[kind]

        yield started


@pytest.fixture(scope="module")
def album(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Album]:
    """Pictures of the pages, in `.artifacts` at the end."""
    found = Album()
    yield found
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    found.write(browser, request.config.rootpath / ".artifacts" / f"pages{worker}.jpg")


@pytest.mark.parametrize(("name", "look"), ROWS, ids=[f"{name}-{look}" for name, look in ROWS])
def test_journey(
    browser: Browser,
    axe: str,
    album: Album,
    installation: Callable[[Kind], Installation],
    name: str,
    look: Look,
) -> None:
    with browsers(browser, look, axe, album) as opened:
        JOURNEYS[name](Stage(opened, installation))
