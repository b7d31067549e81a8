"""Checks of properties that all responses of authapi have."""

import re
from collections.abc import Mapping
from pathlib import Path

import httpx

_DOCS = (Path(__file__).parents[2] / "docs" / "errors.md").read_text(encoding="utf-8")
DOCUMENTED: Mapping[str, int] = {
    code: int(status)
    for code, status in re.findall(r"^\| `(\w+)` \| (\d{3}) \| \S", _DOCS, re.MULTILINE)
}
"""The codes of docs/errors.md, each with its status."""
DOCUMENTED_INPUT_ERRORS = frozenset(
    code
    for cell in re.findall(r"^\| (`[^|]+) \| \D[^|]+ \|$", _DOCS, re.MULTILINE)
    for code in re.findall(r"`(\w+)`", cell)
)
"""The codes of input errors in docs/errors.md."""

PROBLEM_MEMBERS = {"type", "title", "status", "detail", "code", "request_id"}
EXTRA_MEMBERS: Mapping[str, set[str]] = {
    "validation_failed": {"errors"},
    "profile_taken": {"errors"},
    "second_factor_refused": {"attempts_left"},
    "second_factor_required": {"methods", "expires_at"},
    "enrolment_required": {"methods", "expires_at"},
    "email_needed": {"expires_at"},
    "link_required": {"methods"},
    "invalid_grant": {"error"},
    "invalid_request": {"error"},
    "invalid_scope": {"error"},
    "unsupported_grant_type": {"error"},
    "stale_authentication": {"max_age"},
    "insufficient_authentication": {"acr_values"},
}
"""Further members of a problem document, by its code."""
OPTIONAL_MEMBERS: Mapping[str, set[str]] = {
    "insufficient_authentication": {"max_age"},
    "passkey_refused": {"unknown"},
    "email_needed": {"ticket"},
    "second_factor_required": {"ticket"},
    "enrolment_required": {"ticket"},
}
OAUTH_MEMBERS = {"error", "error_description"}
DESCRIPTION = re.compile(r"[\x20\x21\x23-\x5b\x5d-\x7e]+")
"""An `error_description` (RFC 6749, section 5.2)."""

METADATA = "http://127.0.0.1:8000/.well-known/oauth-protected-resource"
BEARER = f'Bearer realm="authapi", resource_metadata="{METADATA}"'
"""The bearer challenge with the metadata routes installed and no `public_url` configured."""

SECURITY_HEADERS: Mapping[str, str] = {
    "content-security-policy": "default-src 'none'; base-uri 'none'; object-src 'none'; "
    "form-action 'none'; frame-ancestors 'none'; sandbox",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "vary": "Authorization, Cookie, Origin",
    "x-content-type-options": "nosniff",
}


PUBLIC_HEADERS: Mapping[str, str] = {
    "cross-origin-resource-policy": "cross-origin",
    "access-control-allow-origin": "*",
}
"""Headers of responses below /.well-known/ that differ from `SECURITY_HEADERS`."""


def _path(response: httpx.Response) -> str:
    # Responses of `tests.web.asgi` have no httpx request, so they record the path.
    noted: str | None = response.extensions.get("path")
    return response.request.url.path if noted is None else noted


def is_public(response: httpx.Response) -> bool:
    """Whether the path is below /.well-known/."""
    return _path(response).startswith("/.well-known/")


def is_oauth(response: httpx.Response) -> bool:
    """Whether the path is that of an OAuth endpoint or below one."""
    path = _path(response)
    return path == "/token" or path.startswith("/token/")


def kind_of_error(response: httpx.Response) -> str:
    """Returns the content type of errors at this path."""
    return "application/json" if is_oauth(response) else "application/problem+json"


def check_headers(response: httpx.Response, *, cache_control: str = "no-store") -> None:
    """Checks that the response has each common header once."""
    headers = response.headers
    public = is_public(response)
    for name, value in {**SECURITY_HEADERS, **(PUBLIC_HEADERS if public else {})}.items():
        assert headers.get_list(name) == [value], name
    if public:
        assert "access-control-allow-credentials" not in headers
    assert headers.get_list("cache-control") == [cache_control]
    assert len(headers.get_list("x-request-id")) == 1
    assert re.fullmatch(r"[0-9a-f]{32}", headers["x-request-id"])
    assert "server" not in headers
    assert "location" not in headers


def check_headers_of_gate(response: httpx.Response) -> None:
    """Checks a response to a found or refused caller by a route of the importing application.

    It has the headers that caches need, and none of those that only routes of authapi have.
    """
    headers = response.headers
    assert headers.get_list("cache-control") == ["no-store"]
    assert headers.get_list("vary") == [SECURITY_HEADERS["vary"]]
    assert {"x-request-id", "location", *SECURITY_HEADERS}.intersection(headers) == {"vary"}


def gate_problem(response: httpx.Response, status: int, code: str) -> dict[str, object]:
    """Checks a refusal by a route of the importing application; returns its body."""
    check_headers_of_gate(response)
    return _problem(response, status, code)


def problem(response: httpx.Response, status: int, code: str) -> dict[str, object]:
    """Checks an error response (RFC 9457; RFC 6749 at OAuth endpoints); returns its body."""
    check_headers(response)
    body = _problem(response, status, code)
    assert body["request_id"] == response.headers["x-request-id"]
    return body


def _problem(response: httpx.Response, status: int, code: str) -> dict[str, object]:
    assert response.status_code == status, response.text
    assert response.headers.get_list("content-type") == [kind_of_error(response)]
    body: dict[str, object] = response.json()
    members = PROBLEM_MEMBERS | EXTRA_MEMBERS.get(code, set())
    members |= OPTIONAL_MEMBERS.get(code, set()) & body.keys()
    assert body.keys() == members | (OAUTH_MEMBERS if is_oauth(response) else set())
    assert body["code"] == code
    assert body["type"] == f"urn:authapi:error:{code}"
    assert body["status"] == status
    assert DOCUMENTED[code] == status
    assert re.fullmatch(r"[0-9a-f]{32}", str(body["request_id"]))
    assert isinstance(body["title"], str)
    assert isinstance(body["detail"], str)
    assert ("www-authenticate" in response.headers) == (
        status == 401 or code == "insufficient_scope"
    )
    assert ("retry-after" in response.headers) == (status in (429, 503))
    if "error" in body:
        assert body["error"] == oauth_error(response, code)
        assert not is_oauth(response) or DESCRIPTION.fullmatch(str(body["error_description"]))
    return body


def oauth_error(response: httpx.Response, code: str) -> str:
    """Returns the `error` of RFC 6749 or RFC 6750 for a refusal with this code."""
    if code in (
        *("invalid_request", "invalid_grant", "invalid_scope", "unsupported_grant_type"),
        *("invalid_client", "insufficient_scope"),
    ):
        return code
    if response.status_code == 401:
        is_of_token = 'error="invalid_token"' in response.headers["www-authenticate"]
        return "invalid_token" if is_of_token else "invalid_client"
    if response.status_code in (429, 503):
        return "temporarily_unavailable"
    is_failure = response.status_code >= 500 and response.status_code != 505
    return "server_error" if is_failure else "invalid_request"


def input_errors(response: httpx.Response) -> list[tuple[tuple[object, ...], str]]:
    """Returns location and code of each input error."""
    body = problem(response, 422, "validation_failed")
    found = body["errors"]
    assert isinstance(found, list)
    assert found
    for error in found:
        assert error.keys() == {"loc", "code", "message"}
        assert error["code"] in DOCUMENTED_INPUT_ERRORS
    return [(tuple(error["loc"]), error["code"]) for error in found]


def unnamed(response: httpx.Response) -> tuple[int, dict[str, object], dict[str, list[str]]]:
    """Returns status, body and headers without request id and date: equal for equal refusals."""
    body = {name: value for name, value in response.json().items() if name != "request_id"}
    headers = {
        name: response.headers.get_list(name)
        for name in response.headers
        if name not in ("x-request-id", "date")
    }
    return response.status_code, body, headers
