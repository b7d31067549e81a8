"""Imports in a thread, at the first use of a module."""

import asyncio
import sys
import threading
from pathlib import Path

import pytest

from authapi import late_imports
from authapi.late_imports import import_in_thread

NAME = "authapi_test_of_late_imports"
_RECORDS = "import threading\nTHREAD = threading.current_thread()\n"


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / f"{NAME}.py").write_text(_RECORDS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(late_imports, "_imported", set())
    monkeypatch.delitem(sys.modules, NAME, raising=False)


async def test_a_module_is_imported_in_a_thread() -> None:
    await import_in_thread(NAME)
    assert sys.modules[NAME].THREAD is not threading.current_thread()


async def test_an_imported_module_needs_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    await import_in_thread(NAME)
    monkeypatch.setattr(asyncio, "to_thread", None)
    await import_in_thread(NAME)


async def test_a_module_that_another_thread_is_importing_is_awaited(tmp_path: Path) -> None:
    begun, go_on = threading.Event(), threading.Event()
    (tmp_path / f"{NAME}.py").write_text(
        "from test_gate import begun, go_on\nbegun.set(); go_on.wait(20)\nIS_COMPLETE = True\n"
    )
    gate = type(sys)("test_gate")
    vars(gate).update(begun=begun, go_on=go_on)
    sys.modules["test_gate"] = gate
    try:
        first = asyncio.create_task(import_in_thread(NAME))
        await asyncio.to_thread(begun.wait, 20)
        second = asyncio.create_task(import_in_thread(NAME))
        await asyncio.sleep(0)
        assert NAME in sys.modules, "the import has begun"
        assert not second.done()
        go_on.set()
        await asyncio.gather(first, second)
    finally:
        go_on.set()
        del sys.modules["test_gate"]
    assert sys.modules[NAME].IS_COMPLETE


async def test_a_missing_module_is_left_to_the_code_that_needs_it() -> None:
    await import_in_thread("authapi_test_no_such_module", NAME)
    assert NAME in sys.modules


async def test_without_a_thread_the_module_is_imported_here(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(asyncio, "to_thread", refuse)
    await import_in_thread(NAME)
    assert sys.modules[NAME].THREAD is threading.current_thread()
