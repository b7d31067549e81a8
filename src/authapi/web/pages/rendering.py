"""Renders the pages: in the language of the reader, with the brand of the operator."""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from math import ceil
from typing import Any

from starlette.requests import HTTPConnection
from starlette.responses import Response

from authapi.web.context import context_of
from authapi.web.pages import addresses
from authapi.web.pages.account.flashes import Flash
from authapi.web.pages.console_access import opens_console
from authapi.web.pages.reader import (
    CHOSEN,
    PARAMETER,
    cookie_of_choice,
    language_of,
    named_language,
)
from authapi.web.pages.site import PERMISSIONS_POLICY, REFERRER_POLICY, site_of
from authapi.web.pages.texts import ERRORS, OUTCOMES, PROBLEMS, TOO_MANY, error_code

Headers = Iterable[tuple[str, str]]

_KEPT = ("next", "done", "show", "before")
"""The parameters of a page that a change of the language keeps."""
_NOT_IN_HTML = re.compile("[\x00-\x1f\x7f-\x9f\ufdd0-\ufdef\ufffe\uffff]")
"""Control characters and noncharacters, which no field of one line has (HTML, section 13.2.3.5)."""


@dataclass(frozen=True, slots=True)
class Form:
    """What a form shows: the typed values, except for passwords, and what is wrong with them."""

    values: Mapping[str, str] = field(default_factory=dict)
    errors: Mapping[str, str] = field(default_factory=dict)
    """The sentence for each field with an error."""
    problem: str | None = None
    """A sentence about the form as a whole."""


EMPTY = Form()


def render(
    connection: HTTPConnection,
    name: str,
    *,
    status: int = 200,
    form: Form = EMPTY,
    headers: Headers = (),
    token: str = "",
    message: Flash | None = None,
    kept: Collection[str] = (),
    **values: Any,
) -> Response:
    """Returns the response with the page of the template `name`, and the headers of all pages.

    `token` is that of the link in a mail which leads to the page. `message` is of the form before.
    `kept` are further parameters that a change of the language keeps. `values` are further values
    for the template.
    """
    site, language = site_of(connection), language_of(connection)
    context, named = context_of(connection), named_language(connection)
    settings, assets = context.runtime.services.settings, site.assets
    body = site.template(f"{name}.html", language).render(
        language=language,
        languages=site.languages.names,
        kept=_kept(connection, token, kept),
        # Forms of pages that a mail links to keep its language.
        lang_query=f"?{PARAMETER}={named}" if named else "",
        base=addresses.base_of(connection.scope, settings.prefix),
        root=addresses.page(connection, ""),
        versions={file: asset.version for file, asset in assets.items()},
        brand=settings.service_name,
        console=addresses.console_folder(connection) if opens_console(connection) else None,
        home=addresses.home(connection),
        sign_in=addresses.sign_in(
            connection, next=addresses.wanted(connection, form.values.get("next"))
        ),
        user=None if context.identity is None else context.identity.user,
        has_sign_out="signin" in context.runtime.units,
        has_tokens="token" in context.runtime.registry,
        passkey_origins=site.passkey_origins,
        min_length=settings.password_min_length,
        terms_url=settings.terms_url,
        privacy_url=settings.privacy_url,
        support_url=settings.support_url,
        form=form,
        outcome=_outcome(connection, message),
        token=token,
        **values,
    )
    response = Response(body, status, media_type="text/html")
    response.headers.update(
        {
            "cache-control": "no-store",
            "content-language": language,
            "content-security-policy": site.csp,
            "cross-origin-opener-policy": "same-origin",
            "permissions-policy": PERMISSIONS_POLICY,
            "referrer-policy": REFERRER_POLICY,
        }
    )
    for header, value in (*cookie_of_choice(connection), *headers):
        response.headers.append(header, value)
    return response


def see_other(location: str, *, headers: Headers = ()) -> Response:
    """Returns the response that leads to the page at `location`, after a form (RFC 9110, 15.4.4).

    `location` may be relative to the request.
    """
    response = Response(status_code=303)
    response.headers["location"] = location
    response.headers["cache-control"] = "no-store"
    # As a page: the next request has the origin, without the path and the query.
    response.headers["referrer-policy"] = REFERRER_POLICY
    for name, value in headers:
        response.headers.append(name, value)
    return response


def sentence(connection: HTTPConnection, code: str, status: int = 400) -> str:
    """Returns the sentence for the `code` of an error with this `status`."""
    settings = context_of(connection).runtime.services.settings
    return site_of(connection).text(
        ERRORS[error_code(code, status)],
        language_of(connection),
        min_length=settings.password_min_length,
        max_tokens=settings.max_personal_tokens,
    )


def too_many(connection: HTTPConnection, seconds: int) -> str:
    """Returns the sentences about too many attempts, with the time to wait."""
    minutes = max(ceil(seconds / 60), 1)
    return site_of(connection).plural(*TOO_MANY, minutes, language_of(connection))


def single_line(text: str) -> str:
    """Returns what a client has sent as a field of a page may show it again."""
    return _NOT_IN_HTML.sub("", text)


def masked(email: str) -> str:
    """Returns an address as a page shows it that a foreign person may see: `a***@example.com`."""
    local, _, domain = email.rpartition("@")
    return f"{local[:1]}***@{domain}"


def _outcome(connection: HTTPConnection, message: Flash | None) -> Mapping[str, object] | None:
    site, language = site_of(connection), language_of(connection)
    if message is not None:
        return {"text": message.text(site, language), "is_problem": message.is_problem}
    code = connection.query_params.get("done", "")
    if code not in OUTCOMES:
        return None
    return {"text": site.text(OUTCOMES[code], language), "is_problem": code in PROBLEMS}


def _kept(connection: HTTPConnection, token: str, more: Collection[str]) -> Mapping[str, str]:
    """Returns the hidden fields of the form that changes the language."""
    kept = {
        name: single_line(value)
        for name in (*_KEPT, *more)
        if (value := connection.query_params.get(name)) is not None
    }
    if token:
        kept |= {"token": token, CHOSEN: "1"}
    return kept
