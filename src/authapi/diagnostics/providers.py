"""The check that asks each provider of logins for its metadata and keys, once."""

import asyncio
from collections.abc import Iterator, Mapping

from authapi.diagnostics.subject import Subject
from authapi.domain.monitoring.findings import Finding
from authapi.errors import ConfigurationError
from authapi.outbound.http_client import RequestFailed
from authapi.outbound.upstreams.registry import Upstreams
from authapi.outbound.upstreams.remote import RemoteUpstream

CHECK = "providers"
_TIMEOUT = 2.5
"""Seconds for one provider. The status page of the console gives a check three seconds."""
_REMEDY = "check its options in AUTHAPI_PROVIDERS, and the network"


def check_providers(subject: Subject) -> Iterator[Finding]:
    """Whether each provider answers, and which redirect URI it must know; nothing without any."""
    if not subject.settings.providers:
        return
    try:
        upstreams = Upstreams(subject.settings)
    except ConfigurationError as error:
        yield Finding(CHECK, "error", str(error))
        return
    for name, problem in ask_all(upstreams).items():
        if problem is None:
            answers = "answers" if upstreams[name].has_metadata else "has no metadata to check"
            uri = upstreams.redirect_uri(name)
            yield Finding(CHECK, "ok", f"{name} {answers}; enter the redirect URI {uri} there")
        else:
            yield Finding.advising(CHECK, "error", f"{name}: {problem}", _REMEDY)


def ask_all(upstreams: Upstreams) -> Mapping[str, str | None]:
    """Returns for each provider what is wrong with its answers; None if nothing is.

    Blocks. Providers without metadata and keys, such as GitHub, are not asked.
    """
    return asyncio.run(_ask_all(upstreams))


async def _ask_all(upstreams: Upstreams) -> Mapping[str, str | None]:
    try:
        found = await asyncio.gather(*(_ask(upstreams[name]) for name in upstreams))
    finally:
        await upstreams.aclose()
    return dict(zip(upstreams, found, strict=True))


async def _ask(upstream: RemoteUpstream) -> str | None:
    try:
        async with asyncio.timeout(_TIMEOUT):
            await upstream.check()
    except TimeoutError:
        return f"no answer in {_TIMEOUT:g} seconds"
    except (RequestFailed, ConfigurationError) as error:
        return str(error)
    return None
