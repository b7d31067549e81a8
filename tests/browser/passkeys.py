"""The application of docs/passkeys-javascript.md, its pages in Chromium, and authenticators."""

import itertools
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import BrowserContext, CDPSession, Page

from authapi.testing import PASSWORD
from tests.servers.process import ServeProcess, free_port
from tests.test_passkeys_javascript_md import DOCUMENT, documented_files
from tests.test_readme import blocks

# Accounts with confirmed addresses, and a route that asks for a passkey.
TEST_ROUTES = f"""

from typing import Annotated
from fastapi import Depends
from fastapi.responses import HTMLResponse
from authapi import User, current_user


@app.post("/people")
async def add_person(email: str) -> None:
    user = await auth.accounts.create(email, "{PASSWORD}")
    await auth.accounts.confirm_email(user.id)


@app.get("/keys")
async def keys(user: Annotated[User, Depends(current_user(acr="phr"))]) -> str:
    return user.email


@app.get("/unprotected")
async def unprotected() -> HTMLResponse:
    return HTMLResponse("<!doctype html><title>no headers</title>")
"""

# Calls a function of the documented module; an error becomes its members. Chromium waits for five
# minutes for an authenticator that is not touched.
CALL = """async ([name, ...args]) => {
    const passkeys = await import("/static/passkeys.js");
    const late = new Promise((_, reject) => setTimeout(reject, 20_000, { name: "late" }));
    try {
        return { value: await Promise.race([passkeys[name](...args), late]) };
    } catch (error) {
        return { error: error.name, ...error };
    }
}"""

# Records what becomes of each request for a passkey.
RECORD = """
globalThis.asked = [];
const get = navigator.credentials.get.bind(navigator.credentials);
navigator.credentials.get = (options) => {
    const call = { mediation: options.mediation, end: "waits" };
    asked.push(call);
    const done = get(options);
    done.then(() => { call.end = "answered" }, (error) => { call.end = error.name ?? "renewed" });
    return done;
};
"""

_numbers = itertools.count(1)


@contextmanager
def running(folder: Path, prefix: str = "") -> Iterator[str]:
    """Runs the documented application; yields its URL, whose host is localhost."""
    changes = {
        "const PREFIX = ''": f"const PREFIX = '{prefix}'",
        "auth.install(app)\n": f'auth.install(app, prefix="{prefix}")\n',
    }
    for path, text in documented_files().items():
        file = folder / path
        file.parent.mkdir(exist_ok=True)
        for old, new in changes.items() if prefix else ():
            text = text.replace(old, new)  # noqa: PLW2901  # changed step by step
        file.write_text(text + TEST_ROUTES * (path == "main.py"), encoding="utf-8")
    port = free_port()
    environment = {
        "PATH": os.defpath,
        "HOME": str(folder),
        "AUTHAPI_DATA_DIR": str(folder / "data"),
        "AUTHAPI_CHEAP_HASHES": "true",
    }
    command = [sys.executable, "-m", "uvicorn", "--app-dir", str(folder), "main:app"]
    with ServeProcess([*command, "--port", str(port)], environment, folder) as process:
        process.wait_ready(f"http://127.0.0.1:{port}{prefix}/health/ready", timeout=60)
        yield f"http://localhost:{port}"
        assert "Traceback" not in process.output()


@contextmanager
def serving(page: str) -> Iterator[str]:
    """Serves a page of another origin; yields its URL, whose host is localhost.

    It has a server of its own: Chromium lets a page that a test makes up load none of this machine.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(page.encode())

        def log_message(self, *_: object) -> None:
            """Prints nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://localhost:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


@dataclass
class Authenticator:
    """A virtual authenticator of Chromium, in one tab (DevTools protocol, domain WebAuthn)."""

    session: CDPSession
    id: str

    def send(self, method: str, **parameters: object) -> dict[str, Any]:
        """Sends a command about this authenticator."""
        parameters["authenticatorId"] = self.id
        answer: dict[str, Any] = self.session.send(f"WebAuthn.{method}", parameters)
        return answer

    def credentials(self) -> list[dict[str, Any]]:
        """Returns the passkeys that it has."""
        found: list[dict[str, Any]] = self.send("getCredentials")["credentials"]
        return found

    def set_verified(self, is_verified: bool) -> None:
        """Decides whether it verifies its user: a finger that it knows or does not know."""
        self.send("setUserVerified", isUserVerified=is_verified)

    def set_present(self, is_present: bool) -> None:
        """Decides whether its user touches it when it asks."""
        self.send("setAutomaticPresenceSimulation", enabled=is_present)


def add_authenticator(page: Page) -> Authenticator:
    """Adds an authenticator that keeps passkeys and verifies its user to a tab."""
    session = page.context.new_cdp_session(page)
    session.send("WebAuthn.enable")
    options = {
        "protocol": "ctap2",
        "ctap2Version": "ctap2_1",
        "transport": "internal",
        "hasResidentKey": True,
        "hasUserVerification": True,
        "isUserVerified": True,
        "automaticPresenceSimulation": True,
    }
    added = session.send("WebAuthn.addVirtualAuthenticator", {"options": options})
    return Authenticator(session, added["authenticatorId"])


class Tab:
    """A tab at the sign-in page, for an account of its own."""

    def __init__(self, context: BrowserContext, url: str, prefix: str = "") -> None:
        self.page: Page = context.new_page()
        self.url, self.prefix = url, prefix
        self.email = f"passkey{next(_numbers)}@example.com"
        self._session = context.new_cdp_session(self.page)
        self._session.send("WebAuthn.enable")

    def open(self, path: str = "/sign-in") -> None:
        """Opens a page of the application."""
        self.page.goto(self.url + path)

    def record(self) -> None:
        """Records the requests for passkeys of pages that are opened from now on."""
        self.page.add_init_script(RECORD)

    def asked(self, count: int) -> list[tuple[str, str]]:
        """Returns the mediation and the end of each request, as soon as there are `count`."""
        self.page.wait_for_function("count => asked.length === count", arg=count)
        calls = self.page.evaluate("asked")
        return [(call["mediation"], call["end"]) for call in calls]

    def add_authenticator(
        self, *, transport: str = "internal", is_synced: bool = False, is_present: bool = True
    ) -> Authenticator:
        """Adds an authenticator that keeps passkeys and verifies its user."""
        options = {
            "protocol": "ctap2",
            "ctap2Version": "ctap2_1",
            "transport": transport,
            "hasResidentKey": True,
            "hasUserVerification": True,
            "isUserVerified": True,
            "automaticPresenceSimulation": is_present,
            "defaultBackupEligibility": is_synced,
            "defaultBackupState": is_synced,
        }
        added = self._session.send("WebAuthn.addVirtualAuthenticator", {"options": options})
        return Authenticator(self._session, added["authenticatorId"])

    def call(self, name: str, *args: object) -> dict[str, Any]:
        """Calls a function of the module: `value` is its result, `error` the name of its error."""
        answer: dict[str, Any] = self.page.evaluate(CALL, [name, *args])
        return answer

    def run_snippet(self, word: str, **names: object) -> None:
        """Runs the code of the page that is no file and has this word, with these variables."""
        [code] = [it for it in blocks("js", DOCUMENT) if word in it and not it.startswith("//")]
        script = f"""async (names) => {{
            const {{ post }} = await import("/static/passkeys.js");
            const {{ {", ".join(names)} }} = names;
            {code}
        }}"""
        self.page.evaluate(script, names)

    def request(self, method: str, path: str) -> tuple[int, Any]:
        """Sends a request from the page; the status and the JSON of the response."""
        script = """async ([method, path]) => {
            const response = await fetch(path, { method });
            const text = await response.text();
            return [response.status, text && JSON.parse(text)];
        }"""
        status, body = self.page.evaluate(script, [method, path])
        return status, body

    def identity(self) -> dict[str, Any] | None:
        """Returns what the service knows about the login of this tab; None without a login."""
        status, body = self.request("GET", f"{self.prefix}/me/identity")
        return body if status == 200 else None

    def register_account(self) -> None:
        """Creates the account, and logs in to it with the password."""
        assert self.request("POST", f"/people?email={self.email}")[0] == 200
        assert self.log_in_by_password()["value"]

    def log_in_by_password(self) -> dict[str, Any]:
        """Sends the password."""
        return self.call("post", "/login", {"email": self.email, "password": PASSWORD})

    def log_out(self) -> None:
        """Ends the login of this tab."""
        assert self.request("POST", f"{self.prefix}/logout")[0] == 204
        assert self.identity() is None

    def at_address(self) -> str:
        """Returns the URL of the application with the address instead of localhost."""
        return f"http://127.0.0.1:{urlsplit(self.url).port}"
