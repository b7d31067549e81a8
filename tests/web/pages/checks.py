"""Checks that apply to all pages."""

import html
import re

import httpx

CSP = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)


def check_page(answer: httpx.Response, status: int, text: str, *, is_error: bool = False) -> None:
    """Check that the response is a page with this status and `text`, and the common headers."""
    assert answer.status_code == status, answer.text
    assert answer.headers.get_list("content-type") == ["text/html; charset=utf-8"]
    assert answer.headers.get_list("content-security-policy") == [CSP]
    assert answer.headers.get_list("cache-control") == ["no-store"]
    assert answer.headers.get_list("referrer-policy") == ["strict-origin"]
    assert answer.headers.get_list("x-content-type-options") == ["nosniff"]
    assert answer.headers.get_list("cross-origin-opener-policy") == ["same-origin"]
    assert answer.headers.get_list("cross-origin-resource-policy") == ["same-origin"]
    [policy] = answer.headers.get_list("permissions-policy")
    assert "publickey-credentials-get=(self)" in policy
    assert "camera=()" in policy
    assert len(answer.headers.get_list("x-request-id")) == 1
    assert len(answer.headers.get_list("content-length")) == 1
    assert "set-cookie" not in answer.headers
    # Scripts are files, that of passkeys only where there is a button for it.
    scripts = re.findall(
        r'<script type="module" src="[./a-z]*(ui|passkeys)\.js\?v=[0-9a-f]{12}"></script>',
        answer.text,
    )
    assert scripts == ["ui", "passkeys"][: 1 + ("data-passkey=" in answer.text)]
    assert answer.text.count("<script") == len(scripts)
    assert " style=" not in answer.text
    assert "<style" not in answer.text
    assert re.search(r"\son[a-z]+=", answer.text) is None
    assert len(answer.text.encode()) <= 12 * 1024
    assert len(re.findall("<h1>", answer.text)) == 1
    assert text in html.unescape(answer.text)
    assert ('role="alert"' in answer.text) is is_error


def main_of(answer: httpx.Response) -> str:
    """The content of a page without its header and footer."""
    found = re.search(r"<main.*</main>", answer.text, re.DOTALL)
    assert found is not None
    return found[0]
