"""A visit of a browser to a provider, without a browser and without the routes."""

import asyncio
import dataclasses
import urllib.error
import urllib.request
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from authapi.clock import now
from authapi.domain.federation.flow import Callback, Flow, FlowIntent
from authapi.domain.federation.person import Person
from authapi.outbound.upstreams.registry import Upstreams
from authapi.outbound.upstreams.remote import RemoteUpstream
from authapi.settings import Settings

REDIRECT_URI = "https://auth.example/login/with/acme/callback"
NONCE = "n-" + "1" * 41


def flow_of(intent: FlowIntent = FlowIntent.LOGIN, **changed: Any) -> Flow:
    """Returns a flow that has begun now."""
    began = now()
    flow = Flow(
        provider="acme",
        state="s-" + "2" * 41,
        nonce=NONCE,
        verifier="v-" + "3" * 41,
        intent=intent,
        began_at=began,
        expires_at=began + timedelta(minutes=10),
        strategy="session",
    )
    return dataclasses.replace(flow, **changed)


def upstreams_of(**providers: Mapping[str, Any]) -> Upstreams:
    """Returns the registry of these providers."""
    return Upstreams(
        Settings.isolated(public_url="https://auth.example", providers=dict(providers))
    )


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """Leaves the redirect to the caller."""


def visit(url: str) -> dict[str, str]:
    """Returns the parameters with which a provider sends a browser back."""
    opener = urllib.request.build_opener(_NoRedirects, urllib.request.ProxyHandler({}))
    with pytest.raises(urllib.error.HTTPError) as caught, opener.open(url, timeout=10):
        pass
    with caught.value as answer:
        assert answer.code == 302
        location = answer.headers["location"]
    return {name: values[0] for name, values in parse_qs(urlsplit(location).query).items()}


async def come_back(
    upstream: RemoteUpstream, flow: Flow | None = None, *, user: str | None = None
) -> Person:
    """Leads a browser to the provider and back, and returns the person whom it proves."""
    flow = flow or flow_of()
    url = await upstream.authorization_url(flow, redirect_uri=REDIRECT_URI)
    found = await asyncio.to_thread(visit, url)
    assert found["state"] == flow.state
    callback = Callback(found["code"], found.get("iss"), user)
    return await upstream.person(callback, flow, redirect_uri=REDIRECT_URI)


def seconds(moment: datetime) -> int:
    """Returns a time in seconds since 1970."""
    return int(moment.astimezone(UTC).timestamp())
