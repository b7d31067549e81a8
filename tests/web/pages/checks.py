"""Checks that apply to all pages."""

import html

import httpx

CSP = (
    "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
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
    assert len(answer.headers.get_list("x-request-id")) == 1
    assert len(answer.headers.get_list("content-length")) == 1
    assert "set-cookie" not in answer.headers
    assert "<script" not in answer.text
    assert " style=" not in answer.text
    assert text in html.unescape(answer.text)
    assert ('role="alert"' in answer.text) is is_error
