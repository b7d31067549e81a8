"""Logs in, refreshes, lists and ends a session with the client of openapi-python-client."""

import json
import sys

from authapi_client import (  # type: ignore[import-not-found]  # generated for this script
    AuthenticatedClient,
    Client,
)
from authapi_client.api.login import (  # type: ignore[import-not-found]  # the same
    login,
    refresh_token,
)
from authapi_client.api.sessions import (  # type: ignore[import-not-found]  # the same
    end_session,
    list_sessions,
)
from authapi_client.models import (  # type: ignore[import-not-found]  # the same
    JWTLoginOut,
    LoginRequest,
    LoginRequestStrategyType0,
    RefreshTokenBody,
    RefreshTokenBodyGrantType,
    TokenOut,
)

url, email = sys.argv[1:]
client = Client(base_url=url)
body = LoginRequest(
    email=email,
    password="correct horse battery staple",
    strategy=LoginRequestStrategyType0.JWT,
)
begun = login.sync(client=client, body=body)
assert isinstance(begun, JWTLoginOut), begun
grant = RefreshTokenBody(
    grant_type=RefreshTokenBodyGrantType.REFRESH_TOKEN, refresh_token=begun.refresh_token
)
renewed = refresh_token.sync(client=client, body=grant)
assert isinstance(renewed, TokenOut), renewed
caller = AuthenticatedClient(base_url=url, token=renewed.access_token)
sessions = list_sessions.sync(client=caller)
assert isinstance(sessions, list), sessions
[current] = [session for session in sessions if session.current]
ended = end_session.sync_detailed(current.id, client=caller)
after = list_sessions.sync_detailed(client=caller)
print(  # noqa: T201  # the test reads it
    json.dumps({"sessions": len(sessions), "ended": ended.status_code, "after": after.status_code})
)
