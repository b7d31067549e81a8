"""Write pictures of the pages, of example accounts, into `docs/images`.

Usage: `python tools/screenshots.py [FOLDER]`. It starts the service on a new database, which
`authapi demo` fills, and needs Debian's chromium. It exits with 1 if a picture is too large.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pyotp
from playwright.sync_api import Browser, StorageState, sync_playwright

from authapi.crypto.secrets import new_secret

FOLDER = Path(__file__).parents[1] / "docs" / "images"
MAX_BYTES = 60_000
DESKTOP, PHONE = (1040, 640), (390, 680)
PORT = 8917
URL = f"http://localhost:{PORT}"
"""Passkeys need a name: a browser has none for an address."""
START_SECONDS = 120

SETTINGS = {
    "AUTHAPI_BRAND_NAME": "Acme",
    "AUTHAPI_PORT": str(PORT),
    "AUTHAPI_PUBLIC_URL": URL,
    "AUTHAPI_SCOPES": "reports:read=Read reports; reports:write=Write and delete reports",
    "AUTHAPI_ROLES": "editor=reports:read reports:write; reader=reports:read",
}
WITH_APP, WITHOUT_APP = "amara.okafor@example.com", "lucia.fernandez@example.com"
"""Example accounts: one with an authenticator app, one without."""
ADMINISTRATOR = "oliver.smith@example.com"
"""The example account that becomes a superuser. The one of the data reads Korean."""
ROLES = {
    WITH_APP: ("reader",),
    WITHOUT_APP: ("editor", "reader"),
    "noah.weber@example.com": ("editor",),
    "jiho.kim@example.com": ("reader",),
}
"""The roles that accounts get, because the example data has none."""


class Picture(NamedTuple):
    """A picture: its file, the page, how it is shown, and the account that is signed in.

    `{id}` in the path is the id of `WITH_APP`, which is new in each database.
    """

    name: str
    path: str
    size: tuple[int, int]
    scheme: Literal["light", "dark"]
    account: str | None = None


PICTURES = (
    Picture("sign-in", "/account/sign-in", DESKTOP, "light"),
    Picture("sign-in-phone", "/account/sign-in", PHONE, "dark"),
    Picture("profile", "/account", DESKTOP, "light", WITH_APP),
    Picture("security", "/account/security", DESKTOP, "dark", WITH_APP),
    Picture("devices", "/account/devices", DESKTOP, "light", WITH_APP),
    Picture("token", "/account/tokens/new", DESKTOP, "light", WITHOUT_APP),
    Picture("activity-phone", "/account/activity", PHONE, "dark", WITHOUT_APP),
    Picture("console-people", "/console/people", DESKTOP, "light", ADMINISTRATOR),
    Picture("console-person", "/console/people/{id}", DESKTOP, "light", ADMINISTRATOR),
    Picture("console-events", "/console/events", DESKTOP, "dark", ADMINISTRATOR),
    Picture("console-status", "/console/status", DESKTOP, "light", ADMINISTRATOR),
)


class Accounts(NamedTuple):
    """The example accounts: their password, the secrets of their apps, and their ids."""

    password: str
    apps: Mapping[str, str]
    ids: Mapping[str, str]


@contextmanager
def service() -> Iterator[Accounts]:
    """Run the service on a new database with the example accounts."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {
            **SETTINGS,
            "AUTHAPI_DATA_DIR": folder,
            "HOME": folder,
            "PATH": os.environ["PATH"],
        }
        command = [sys.executable, "-m", "authapi"]

        def run(*arguments: str) -> Any:
            finished = subprocess.run(
                [*command, *arguments, "--json"],
                env=environment,
                stdout=subprocess.PIPE,
                check=True,
            )
            return json.loads(finished.stdout)

        demo = run("demo", "--password", new_secret())
        apps = {it["email"]: it["app_secret"] for it in demo["accounts"] if it["app_secret"]}
        for email, roles in ROLES.items():
            run("users", "roles", email, *roles)
        run("users", "superuser", ADMINISTRATOR)
        ids = {it["email"]: it["id"] for it in run("users", "list")["items"]}
        process = subprocess.Popen(
            [*command, "serve"],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            wait_ready(process)
            yield Accounts(demo["password"], apps, ids)
        finally:
            process.terminate()
            process.wait()


def wait_ready(process: subprocess.Popen[bytes]) -> None:
    """Returns when the service answers. Raises RuntimeError if it does not."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{URL}/health/ready"):  # noqa: S310  # http
                return
        except urllib.error.URLError:
            time.sleep(0.2)
    raise RuntimeError("the service does not start; is its port in use?")


def sign_in(browser: Browser, account: str, accounts: Accounts) -> StorageState:
    """Signs in, with a code if the account has an authenticator app; returns the cookies."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{URL}/account/sign-in")
    page.fill("#email", account)
    page.fill("#password", accounts.password)
    page.press("#password", "Enter")
    if account in accounts.apps:
        page.wait_for_selector("#code")
        page.fill("#code", pyotp.TOTP(accounts.apps[account]).now())
        page.press("#code", "Enter")
    page.wait_for_url(f"{URL}/account")
    state = context.storage_state()
    context.close()
    return state


def take(
    browser: Browser, picture: Picture, path: str, state: StorageState | None, folder: Path
) -> int:
    """Writes one picture, and returns its size in bytes."""
    width, height = picture.size
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme=picture.scheme,
        locale="en",
        reduced_motion="reduce",
        storage_state=state,
    )
    page = context.new_page()
    page.goto(URL + path)
    if picture.name == "token":
        page.fill("#name", "Nightly backup")
        page.check("#may-reports\\:read")
        page.press("#name", "Enter")
        page.wait_for_selector("#token")
    file = folder / f"{picture.name}.png"
    page.screenshot(path=file)
    context.close()
    return file.stat().st_size


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=FOLDER)
    folder: Path = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    executable = shutil.which("chromium")
    if executable is None:
        print("there is no chromium in PATH: install Debian's package of it", file=sys.stderr)
        return 1
    too_large = 0
    with service() as accounts, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=executable, args=["--no-sandbox", "--disable-gpu"]
        )
        states = {
            account: sign_in(browser, account, accounts)
            for account in (WITH_APP, WITHOUT_APP, ADMINISTRATOR)
        }
        for picture in PICTURES:
            state = None if picture.account is None else states[picture.account]
            path = picture.path.format(id=accounts.ids[WITH_APP])
            size = take(browser, picture, path, state, folder)
            too_large += size > MAX_BYTES
            print(f"{picture.name}.png: {size} bytes")
        browser.close()
    return 1 if too_large else 0


if __name__ == "__main__":
    raise SystemExit(main())
