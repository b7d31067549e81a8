"""axe-core in Chromium."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

from playwright.sync_api import CDPSession, Page

RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
OPTIONS = json.dumps({"runOnly": RULES, "resultTypes": ["violations"]})


def axe_script(folder: Path) -> str:
    """The script of axe-core, from npm in a pinned version. Fails without npm."""
    shutil.copy(Path(__file__).parent / "axe" / "package.json", folder)
    # No lock file: it would contain the host of the registry.
    quiet = ("--silent", "--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts")
    subprocess.run(["npm", "install", "--prefix", folder, *quiet], check=True, timeout=120)
    return (folder / "node_modules" / "axe-core" / "axe.min.js").read_text(encoding="utf-8")


class Axe:
    """axe-core for the pages of one tab, whose scripts run or do not."""

    def __init__(self, page: Page, script: str, *, has_script: bool = True) -> None:
        self._session: CDPSession = page.context.new_cdp_session(page)
        self._script, self._has_script = script, has_script
        self._set_scripts(has_script)

    def _set_scripts(self, are_run: bool) -> None:
        # Not by the option of Playwright: it would forbid the timers of axe, too.
        self._session.send("Emulation.setScriptExecutionDisabled", {"value": not are_run})

    def violations(self) -> list[tuple[str, str]]:
        """The rules that the page violates, each with one element."""
        # The scripts of a page that is shown already do not run late.
        self._set_scripts(True)
        try:
            return self._run()
        finally:
            self._set_scripts(self._has_script)

    def _run(self) -> list[tuple[str, str]]:
        # In an isolated world, because the CSP of the page allows no such script.
        frame = self._session.send("Page.getFrameTree")["frameTree"]["frame"]["id"]
        world = self._session.send("Page.createIsolatedWorld", {"frameId": frame})
        expression = f"{self._script}; axe.run(document, {OPTIONS}).then(JSON.stringify)"
        found = self._evaluate(expression, world["executionContextId"])
        items = json.loads(found["result"]["value"])["violations"]
        return [(item["id"], item["nodes"][0]["html"]) for item in items]

    def _evaluate(self, expression: str, world: int) -> dict[str, Any]:
        found: dict[str, Any] = self._session.send(
            "Runtime.evaluate",
            {
                "expression": expression,
                "contextId": world,
                "awaitPromise": True,
                "returnByValue": True,
            },
        )
        assert "exceptionDetails" not in found, found
        return found
