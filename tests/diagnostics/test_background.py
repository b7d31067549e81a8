"""The checks of a running service: in threads, bounded, and kept for a while."""

import asyncio
import threading
from collections.abc import Iterator

from authapi.diagnostics.background import BackgroundChecks
from authapi.domain.monitoring.findings import Finding, Report


class Slow:
    """A check that does not end until it is told to."""

    def __init__(self) -> None:
        self.calls = 0
        self.end = threading.Event()

    def __call__(self) -> Iterator[Finding]:
        self.calls += 1
        self.end.wait(20)
        yield Finding("slow", "ok", "at last")


def fine() -> Iterator[Finding]:
    yield Finding("fine", "ok", threading.current_thread().name)


def broken() -> Iterator[Finding]:
    yield Finding("broken", "ok", str(1 // int("0")))


async def test_one_slow_check_does_not_keep_the_others_from_their_result() -> None:
    slow = Slow()
    checks = BackgroundChecks(lambda: {"slow": slow, "fine": fine}, timeout=0.2, max_age=0)
    for _ in range(3):
        report = await checks.report()
        late, found = report.findings
        assert (late.check, late.verdict) == ("slow", "warning")
        assert late.message == "no result in 0.2 seconds"
        assert (found.check, found.verdict) == ("fine", "ok")
    # It still runs, and was not started again.
    assert slow.calls == 1
    slow.end.set()
    slow.end = threading.Event()
    slow.end.set()
    report = await asyncio.wait_for(eventually_all_ok(checks), 20)
    assert report.findings[0].message == "at last"


async def eventually_all_ok(checks: BackgroundChecks) -> Report:
    while True:
        report = await checks.report()
        if all(item.verdict == "ok" for item in report.findings):
            return report


async def test_checks_do_not_block_the_event_loop() -> None:
    report = await BackgroundChecks(lambda: {"fine": fine}).report()
    assert report.findings[0].message != threading.main_thread().name


async def test_an_error_is_a_finding_without_its_text() -> None:
    report = await BackgroundChecks(lambda: {"broken": broken, "fine": fine}).report()
    assert report.findings[0] == Finding("broken", "error", "failed: ZeroDivisionError")
    assert report.findings[1].verdict == "ok"


async def test_concurrent_callers_share_a_run_and_its_result_is_kept() -> None:
    runs = 0

    def count() -> Iterator[Finding]:
        nonlocal runs
        runs += 1
        yield Finding("count", "ok", str(runs))

    checks = BackgroundChecks(lambda: {"count": count})
    reports = await asyncio.gather(*(checks.report() for _ in range(10)))
    assert {report.findings[0].message for report in reports} == {"1"}
    assert (await checks.report()).findings[0].message == "1"
    # A caller that is cancelled does not cancel the others.
    fresh = BackgroundChecks(lambda: {"count": count})
    first, second = [asyncio.create_task(fresh.report()) for _ in range(2)]
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).findings[0].message == "2"


def test_another_event_loop_gets_a_run_of_its_own() -> None:
    checks = BackgroundChecks(lambda: {"fine": fine})
    for _ in range(2):
        assert asyncio.run(checks.report()).findings[0].verdict == "ok"
