"""A picture of all pages that a run of the tests has seen, for people to look at."""

import base64
import re
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import Browser, Page

from tests.browser.looks import Look

MAX_PICTURES = 120
WIDTH = 300
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

COLUMNS = 6

STYLE = f"""
body {{ margin: 16px; font: 13px/1.4 sans-serif; background: #777; color: #fff; }}
main {{ display: grid; grid-template-columns: repeat({COLUMNS}, {WIDTH}px); gap: 16px; }}
figure {{ margin: 0; overflow-wrap: anywhere; }}
img {{ display: block; width: {WIDTH}px; }}
"""


class Album:
    """One picture of each page, with an error and without it, in the look of its first visit."""

    def __init__(self) -> None:
        self._pictures: dict[str, tuple[Look, bytes]] = {}

    def add(self, page: Page, look: Look) -> None:
        """Takes a picture of the page, unless there is one."""
        path = _ID.sub("ID", urlsplit(page.url).path)
        is_refused = page.locator(".banner.bad, .error").count() > 0
        name = f"{path}{' (refused)' if is_refused else ''}"
        if name not in self._pictures and len(self._pictures) < MAX_PICTURES:
            shot = page.screenshot(type="jpeg", quality=70, animations="disabled")
            self._pictures[name] = look, shot

    def write(self, browser: Browser, path: Path) -> None:
        """Writes all pictures as one."""
        figures = [
            f'<figure><img src="data:image/jpeg;base64,{base64.b64encode(shot).decode()}">'
            f"<figcaption>{name}<br>{look}</figcaption></figure>"
            for name, (look, shot) in sorted(self._pictures.items())
        ]
        page = browser.new_page(viewport={"width": COLUMNS * (WIDTH + 16) + 16, "height": 800})
        page.set_content(f"<!doctype html><style>{STYLE}</style><main>{''.join(figures)}</main>")
        path.parent.mkdir(exist_ok=True)
        page.screenshot(path=path, type="jpeg", quality=75, full_page=True)
        page.close()
