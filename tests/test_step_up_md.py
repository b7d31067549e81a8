"""docs/step-up.md: its application, its client and its test do what the page says."""

import json
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from authapi.clock import now
from authapi.domain.factors.authentication_context import ACR_VALUES, acr_of
from authapi.testing import acting_as, sync_client
from tests.test_readme import ROOT, blocks

PATH = ROOT / "docs" / "step-up.md"
PAGE = PATH.read_text(encoding="utf-8")
HOUR = timedelta(hours=1)


@pytest.fixture
def app(sqlite_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FastAPI]:
    """The application of the page, as the module `shop`."""
    monkeypatch.setenv("AUTHAPI_DATABASE_URL", sqlite_url)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "shop.py").write_text(block("shop.py"))
    import shop  # type: ignore[import-not-found]  # written above

    yield shop.app
    del sys.modules["shop"]


def block(title: str) -> str:
    """Returns the code that begins with this comment."""
    [found] = [code for code in blocks("python", PAGE) if code.startswith(f"# {title}\n")]
    return found


def test_the_application_asks_for_what_the_page_says(app: FastAPI) -> None:
    with sync_client(app) as api:
        ada = api.create_user()
        enrolled = replace(ada, mfa_since=ada.created_at)

        def passed(**login: Any) -> list[str]:
            user = login.pop("user", ada)
            paths = {"/reports": "GET", "/address": "POST", "/payments": "POST", "/keys": "POST"}
            with acting_as(user, **login):
                answers = {path: api.request(way, path) for path, way in paths.items()}
            return [path for path, answer in answers.items() if answer.is_success]

        assert passed() == ["/address"]
        assert passed(user=enrolled) == []
        assert passed(user=enrolled, mfa=True) == ["/reports", "/address", "/payments"]
        assert passed(mfa=True, mfa_at=now() - 2 * HOUR) == ["/reports", "/address"]
        assert passed(acr="phr") == ["/reports", "/address", "/payments", "/keys"]
        assert passed(acr="phr", auth_time=now() - HOUR / 2) == ["/reports", "/keys"]
        assert passed(amr=()) == []


def test_the_refusal_is_the_documented_one(app: FastAPI) -> None:
    with sync_client(app) as api, acting_as(api.create_user(), strategy="token"):
        answer = api.get("/reports")
    [problem] = [text for text in blocks("json", PAGE) if '"code"' in text]
    documented = json.loads(problem)
    body = answer.json()
    assert {**body, "request_id": documented["request_id"]} == documented
    [line] = re.findall(r"^www-authenticate: (Bearer .*)$", PAGE, re.MULTILINE)
    assert line in answer.headers.get_list("www-authenticate")
    assert f"HTTP/1.1 {answer.status_code} Unauthorized" in PAGE


def test_the_client_steps_up(app: FastAPI) -> None:
    names: dict[str, Any] = {"httpx": httpx, "Callable": Callable}
    exec(block("a client"), names)  # the code of this repository
    with sync_client(app) as api:
        ada = api.create_user()
        api.login(ada)
        authenticator = api.authenticator()
        authenticator.enrol(ada)
        assert api.get("/reports").status_code == 401
        answer = names["get_reports"](api, authenticator.code)
        assert answer.json() == f"reports of {ada.email}"


def test_the_documented_test_passes(app: FastAPI) -> None:
    names: dict[str, Any] = {}
    exec(block("test_shop.py"), names)  # the code of this repository
    names["test_reports_need_two_factors"]()


def test_the_tables_have_every_class() -> None:
    assert set(re.findall(r'`acr="([^"]+)"`', PAGE)) == set(ACR_VALUES)
    table = PAGE.partition("| login | `amr` | `acr` |\n")[2]
    rows = re.findall(r"^\| [^|]+ \| `([a-z ]+)`[^|]* \| `([\w:]+)` \|$", table, re.MULTILINE)
    assert len(rows) == 5
    for amr, acr in rows:
        assert acr_of(amr.split()) == acr


def test_the_openapi_document_has_the_documented_member(app: FastAPI) -> None:
    paths = app.openapi()["paths"]
    [required] = [json.loads(text) for text in blocks("json", PAGE) if text.startswith('{"mfa"')]
    assert paths["/payments"]["post"]["x-authapi-requires"] == required
    assert paths["/address"]["post"]["x-authapi-requires"]["mfa"] == "enrolled"


def test_links_are_valid() -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", PAGE):
        assert (PATH.parent / target).exists(), target
