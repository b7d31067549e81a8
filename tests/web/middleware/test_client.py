"""What trusted proxies tell of the scheme, warnings about addresses, and what is stored."""

import ipaddress

import pytest
from starlette.types import Scope

from authapi.domain.client import read_client
from authapi.testing import PASSWORD
from authapi.web.middleware.client import _MalformedAddressWarning, arrived_over_http
from tests.conftest import SettingsFactory
from tests.security.peers import serving

PROXIES = tuple(
    ipaddress.ip_network(text) for text in ("10.0.0.0/8", "192.168.7.7/32", "2001:db8:f::/48")
)


def scope(peer: str | None, *forwarded: str, **headers: str) -> Scope:
    raw = [(b"x-forwarded-for", value.encode("latin-1")) for value in forwarded]
    raw += [
        (name.replace("_", "-").encode(), value.encode("latin-1"))
        for name, value in headers.items()
    ]
    return {"client": None if peer is None else (peer, 4711), "headers": raw}


def test_malformed_address_is_logged_once_a_minute(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    at = 1000.0
    warning = _MalformedAddressWarning()
    monkeypatch.setattr("authapi.web.middleware.client.time.monotonic", lambda: at)

    def ip_of(peer: str | None, *forwarded: str) -> str | None:
        found = scope(peer, *forwarded)
        client = read_client(
            found["headers"],
            found["client"],
            trusted=PROXIES,
            request_id="id",
            on_malformed=warning.log,
        )
        return client.ip

    for peer, forwarded in ((None, "x"), ("192.0.2.1", "x"), ("10.0.0.1", "192.0.2.1")):
        ip_of(peer, forwarded)
    assert caplog.records == []
    for _ in range(3):
        assert ip_of("10.0.0.1", "secret text") is None
        assert ip_of("/run/secret text") is None
    at += 59.9
    ip_of("10.0.0.1", "")
    assert len(caplog.records) == 1
    at += 0.2
    ip_of("10.0.0.1", "secret text")
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
    assert "X-Forwarded-For" in caplog.text
    assert "secret" not in caplog.text


@pytest.mark.parametrize(
    ("peer", "protocols", "clear"),
    [
        ("10.0.0.1", ["http"], True),
        ("10.0.0.1", ["HTTP"], True),
        ("10.0.0.1", ["ws"], True),
        ("10.0.0.1", [""], True),
        ("10.0.0.1", ["https", "http"], True),
        ("10.0.0.1", ["https"], False),
        ("10.0.0.1", [" HTTPS "], False),
        ("10.0.0.1", ["wss"], False),
        ("10.0.0.1", ["http", "https"], False),
        ("10.0.0.1", [], False),
        ("10.0.0.1", ["http, https"], False),
        ("10.0.0.1", ["http,HTTPS ,"], False),
        ("10.0.0.1", ["https,http"], True),
        ("10.0.0.1", ["https, http, , "], True),
        ("10.0.0.1", [" , "], True),
        ("10.0.0.1", ["https", ""], False),
        ("10.0.0.1", ["https://"], True),
        ("10.0.0.1", ['"https"'], True),
        ("10.0.0.1", ["\u00e9"], True),
        ("10.0.0.1", ["wss,"], False),
        ("::ffff:10.0.0.1", ["http"], True),
        ("10.0.0.1:443", ["http"], True),
        ("unknown", ["http"], False),
        ("192.0.2.1", ["http"], False),
        (None, ["http"], False),
    ],
)
def test_only_a_trusted_proxy_reports_the_scheme(
    peer: str | None, protocols: list[str], clear: bool
) -> None:
    headers = [(b"x-forwarded-proto", protocol.encode("latin-1")) for protocol in protocols]
    found: Scope = {"client": None if peer is None else (peer, 1), "headers": headers}
    assert arrived_over_http(found, PROXIES) is clear
    assert arrived_over_http(found, ()) is False


@pytest.mark.parametrize(
    ("forwarded", "protocols", "clear"),
    [
        # One proxy: it has written the last entry.
        ("203.0.113.9", "https, http", True),
        ("203.0.113.9", "http, https", False),
        ("10.0.0.9, 203.0.113.9", "https, http", True),
        # Two proxies: TLS ends at the first.
        ("203.0.113.9, 10.0.0.2", "https, http", False),
        ("203.0.113.9, 10.0.0.2:8080", "https, http", False),
        ("203.0.113.9,, 10.0.0.2 ,", "https, http,", False),
        ("203.0.113.9, 10.0.0.2", "http, https", True),
        ("203.0.113.9, 10.0.0.2", "https", False),
        ("203.0.113.9, 10.0.0.2", "http", True),
        # The client sent the header too: its entry is never used.
        ("203.0.113.9, 10.0.0.2", "https, http, http", True),
        ("203.0.113.9, 10.0.0.2", "https, http, https", True),
        ("203.0.113.9, 10.0.0.2", "http, https, http", False),
        ("10.0.0.9, 203.0.113.9, 10.0.0.2", "https, http, http", True),
        ("garbage, 10.0.0.2", "https, http, http", True),
        # Three proxies, of which one writes nothing: the left-most entry.
        ("203.0.113.9, 10.0.0.3, 10.0.0.2", "https, http", False),
        ("203.0.113.9, 10.0.0.3, 10.0.0.2", "wss, ws, ws", False),
        ("203.0.113.9, 10.0.0.3, 10.0.0.2", "http, https, https", True),
    ],
)
def test_scheme_entry_has_the_position_of_the_client(
    forwarded: str, protocols: str, clear: bool
) -> None:
    found = scope("10.0.0.1", forwarded, x_forwarded_proto=protocols)
    assert arrived_over_http(found, PROXIES) is clear
    several = scope("10.0.0.1", *forwarded.split(","))
    several["headers"] += [(b"x-forwarded-proto", part.encode()) for part in protocols.split(",")]
    assert arrived_over_http(several, PROXIES) is clear


@pytest.mark.parametrize(
    ("forwarded", "ip"),
    [
        ("198.51.100.66, 203.0.113.9", "203.0.113.9"),
        ("203.0.113.9:51812", "203.0.113.9"),
        ("[2001:DB8::1]:443", "2001:db8::1"),
        ("<script>alert(1)</script>", None),
        ("203.0.113.9, <script>", None),
        ("fe80::1%<script>", "fe80::1"),
        ("x" * 2000, None),
    ],
)
async def test_row_50_only_an_address_is_stored_with_a_session(
    make_settings: SettingsFactory, forwarded: str, ip: str | None
) -> None:
    async with serving(make_settings(trusted_proxies="10.0.0.0/8")) as service:
        alice = await service.api.create_user()
        proxy = service.at("10.0.0.1", headers={"x-forwarded-for": forwarded})
        body = {"email": alice.email, "password": PASSWORD}
        assert (await proxy.post("/login", json=body)).status_code == 200
        sessions = (await proxy.get("/me/sessions")).json()
        assert [session["ip"] for session in sessions] == [ip]
        events = (await proxy.get("/me/events")).json()["items"]
        assert {event["ip"] for event in events if event["type"] == "login"} == {ip}
