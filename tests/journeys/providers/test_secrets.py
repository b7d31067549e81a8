"""No secret of a setting or of a login is on a page, in a log, in an event or told by a command."""

import base64
import html
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, quote_plus, urljoin, urlsplit

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import SecretStr

from authapi import Settings
from tests.journeys.providers.service import (
    NAVIGATION,
    PASSWORD,
    People,
    Service,
    Visitor,
    new_name,
    outcome_of,
    serving,
)
from tests.servers.openid import CLIENT_ID, CLIENT_SECRET
from tests.verify.issuer import Reply

CANARY = "Kanarienvogel"
ROOT = "root@example.com"
SETTINGS = {
    "secret": f"{CANARY}-1-of-the-service-itself-0123456789",
    "secret_previous": f"{CANARY}-2-of-the-service-before-0123456789",
    "mail_url": f"smtp://user:{CANARY}-3@127.0.0.1:1",
    "redis_url": f"redis://:{CANARY}-4@127.0.0.1:1/0",
    "webhook_secret": f"whsec_{'Q2FuYXJ5' * 6}",
    "webhook_urls": f"http://127.0.0.1:1/{CANARY}-5?key={CANARY}-6",
}
OF_COMMANDS_ONLY = {"database_url", "database_direct_url"}
"""The first is that of the test; the second needs a pooler."""


def test_every_secret_setting_is_looked_for() -> None:
    secret = {
        name for name, field in Settings.model_fields.items() if SecretStr.__name__ in str(field)
    }
    assert secret == (SETTINGS.keys() - {"webhook_urls"}) | OF_COMMANDS_ONLY


class Watched(People):
    """A provider that remembers what of its logins is secret."""

    def __init__(self) -> None:
        super().__init__()
        self.secrets: set[str] = set()
        self.make_token = self._made

    def _made(self, claims: dict[str, Any]) -> str:
        token = self.signed(claims)
        self.secrets.update(part for part in token.split(".")[1:])
        return token

    def of_logins(self, callbacks: list[str]) -> set[str]:
        """Codes, states, nonces, verifiers and tokens."""
        found = set(self.secrets)
        for form in self.forms:
            found |= {form["code"], form["code_verifier"]}
        for callback in callbacks:
            query = dict(parse_qsl(urlsplit(callback).query))
            found |= {query[name] for name in ("code", "state") if name in query}
        return found


def spellings(secret: str) -> set[str]:
    """A secret as it may be in a URL, in HTML, in JSON, or in Basic credentials."""
    pair = base64.b64encode(f"{CLIENT_ID}:{quote_plus(secret)}".encode()).decode()
    quoted = {quote(secret), quote(secret, safe=""), quote_plus(secret)}
    return {secret, html.escape(secret), json.dumps(secret)[1:-1], pair, *quoted}


def check_absent(text: str, secrets: set[str], where: str) -> None:
    found = [it for it in secrets for spelling in spellings(it) if spelling in text]
    assert not found, f"{found} in {where}"


def walk(browser: Visitor) -> Mapping[str, str]:
    """Reads every page of the console and of the account; returns the texts by address."""
    waiting = ["/console/status", "/console/people", "/account", "/me/identities"]
    seen = dict[str, str]()
    while waiting:
        path = waiting.pop()
        if path in seen or len(seen) > 150:
            continue
        answer = browser.get(path, headers=NAVIGATION)
        assert answer.status_code < 400 or answer.status_code == 404, (path, answer.status_code)
        seen[path] = f"{answer.headers}\n{answer.text}"
        links = re.findall(r'(?:href|action)="([^"]*)"', answer.text)
        links += [answer.headers["location"]] if "location" in answer.headers else []
        for link in links:
            url = urlsplit(urljoin(f"http://x{path}", html.unescape(link)))
            if url.netloc == "x" and re.match(r"/(console|account)(/|$)", url.path):
                waiting.append(url.path + (f"?{url.query}" if url.query else ""))
    return seen


def apple_key(folder: Path) -> tuple[Path, set[str]]:
    """Writes a key of Apple; returns its file, and the lines of it."""
    pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    file = folder / "key.p8"
    file.write_bytes(pem)
    file.chmod(0o600)
    return file, {line for line in pem.decode().splitlines() if "-" not in line}


@pytest.mark.slow
def test_no_secret_is_told(postgres_url: str, tmp_path: Path) -> None:
    key, lines = apple_key(tmp_path)
    other_secret = f"{CANARY}-7/of+another&client"
    with Watched() as acme, Watched() as posting:
        providers = {
            "acme": acme.options(trusted_email_domains=["example.com"]),
            "posting": posting.options(
                client_auth="post", client_secret=other_secret, response_mode="form_post"
            ),
            "apple": {
                "client_id": "com.example",
                "team_id": "TEAM",
                "key_id": "KEY",
                "key_file": str(key),
            },
            "github": {"client_id": "shop", "client_secret": f"{CANARY}-8-of-github"},
            "away": {"issuer": "http://127.0.0.1:1", "client_id": "shop"},
        }
        secrets = {CANARY, CLIENT_SECRET, other_secret, *lines, SETTINGS["webhook_secret"]}
        secrets |= set(filter(None, [urlsplit(postgres_url).password]))
        with serving(
            tmp_path,
            postgres_url,
            providers,
            access_log="true",
            **SETTINGS,
        ) as service:
            created = service.command("users", "create", "--superuser", ROOT, stdin=PASSWORD)
            assert created.returncode == 0, created.stderr
            callbacks = visit(service, acme)
            secrets |= acme.of_logins(callbacks)
            browser = service.visitor()
            browser.log_in(ROOT)
            pages = walk(browser)
            assert {"/console/status?show=settings", "/console/mail", "/account"} <= pages.keys()
            assert len(pages) > 30
            for path, text in pages.items():
                check_absent(text, secrets, path)
            commands = [
                ("config",),
                ("config", "--json"),
                ("doctor",),
                ("providers", "list"),
                ("providers", "check", "--json"),
            ]
            for command in commands:
                done = service.command(*command)
                assert done.stdout, (command, done.stderr)
                check_absent(done.stdout + done.stderr, secrets, " ".join(command))
            events = browser.get("/admin/events?limit=100").text
            assert "federated_login_refused" in events
            check_absent(events, secrets, "the events")
        check_absent(service.process.output(), secrets, "the log")


def visit(service: Service, acme: Watched) -> list[str]:
    """Logs in, links, and fails in several ways; returns the addresses of the callbacks."""
    person, callbacks = new_name(), []
    browser = service.visitor()

    def come_back(url: str, who: str) -> str:
        callbacks.append(browser.at_provider(url, who))
        return outcome_of(browser.come_back(callbacks[-1]))

    assert come_back(browser.begin(), person) == "in"
    assert come_back(browser.begin_link(), f"{person}second") == "in"
    assert come_back(browser.begin(strategy="jwt", to="/in"), person) == "to /in"
    assert outcome_of(browser.come_back(callbacks[-1])) == "to /in"  # loaded again
    for changed in ({"nonce": "n" * 43}, {"aud": "another"}, {"iss": "http://evil"}, {"exp": 1}):
        acme.about[f"{person}bad"] = changed
        assert come_back(browser.begin(), f"{person}bad") == "provider-answer-refused"
    acme.replies["/token"] = Reply({"error": "invalid_grant", "error_description": CANARY}, 400)
    assert come_back(browser.begin(), person) == "provider-refused"
    acme.replies["/token"] = Reply({"error": f"{CANARY}"}, 500)
    assert come_back(browser.begin(), person) == "provider-unavailable"
    return callbacks
