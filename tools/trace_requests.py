"""Print which files of authapi a request enters, in the order of entry.

Usage: `python tools/trace_requests.py [TEXT...]`. Without an argument it traces every request of
REQUESTS, else those whose name contains one of the texts.

Each request goes over ASGI to the shipped application on an embedded database. The same request of
another account goes first, so that nothing is built for the first time. A file counts if a function
of it runs. Constructors, properties, the methods of values (frozen dataclasses, named tuples,
enumerations, pydantic models) and expressions do not count: a reader does not open a file for them.

Of these files, some only answer in this request: none of their functions that run calls a function
of another file, as with `now()` and `hash_secret()`. They are marked `leaf`. A reader who follows
the request passes through the others.
"""

import argparse
import asyncio
import dataclasses
import enum
import inspect
import os
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import httpx
from pydantic import BaseModel

import authapi
from authapi import Settings, User
from authapi.app import create_service
from authapi.domain.email_address import parse_email
from authapi.services import Services

PACKAGE = Path(authapi.__file__).parent
PASSWORD = "correct horse battery staple"
ORIGIN = "http://127.0.0.1:8000"


@dataclass(frozen=True, slots=True)
class Entered:
    """A file that a request enters."""

    functions: tuple[str, ...]
    """The functions that ran, in the order of their first call."""
    is_leaf: bool
    """Whether none of them called a function of another file."""


Files = Mapping[str, Entered]
"""The entered files, by their paths in the package, in the order of entry."""
Request = Callable[[], Awaitable[None]]

_emails = (f"user{number}@example.com" for number in count(1))
_is_recording = ContextVar("is_recording", default=False)


class Trace:
    """Records which files of the package run in one context, and in its tasks and threads."""

    def __init__(self) -> None:
        self._functions: dict[str, list[str]] = {}
        self._calling: set[str] = set()
        self._files: dict[CodeType, str | None] = {}

    @property
    def files(self) -> Files:
        """The entered files so far."""
        return {
            path: Entered(tuple(names), path not in self._calling)
            for path, names in self._functions.items()
        }

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Watches this thread, and the threads that start inside this block."""
        threading.setprofile(self._on_event)
        sys.setprofile(self._on_event)
        try:
            yield
        finally:
            sys.setprofile(None)
            threading.setprofile(None)

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Records the calls of the current context inside this block."""
        token = _is_recording.set(True)
        try:
            yield
        finally:
            _is_recording.reset(token)

    def _on_event(self, frame: FrameType, event: str, _: object) -> None:
        if event != "call" or not _is_recording.get():
            return
        path = self._file_of(frame)
        if path is None:
            return
        names = self._functions.setdefault(path, [])
        if frame.f_code.co_name not in names:
            names.append(frame.f_code.co_name)
        caller = frame.f_back
        while caller is not None:
            calling = self._file_of(caller)
            if calling is not None:
                if calling != path:
                    self._calling.add(calling)
                return
            caller = caller.f_back

    def _file_of(self, frame: FrameType) -> str | None:
        code = frame.f_code
        if code not in self._files:
            self._files[code] = _counted_file(frame)
        return self._files[code]


def _counted_file(frame: FrameType) -> str | None:
    """The file of a function that counts, else None."""
    code = frame.f_code
    path = Path(code.co_filename)
    if not path.is_relative_to(PACKAGE) or path.suffix != ".py":  # templates have code too
        return None
    if code.co_name.startswith(("__", "<")):
        return None
    return None if _is_of_value(frame) else path.relative_to(PACKAGE).as_posix()


def _is_of_value(frame: FrameType) -> bool:
    *owners, name = frame.f_code.co_qualname.split(".")
    owner: object = inspect.getmodule(frame.f_code)
    for part in owners:
        owner = getattr(owner, part, None)
    if not isinstance(owner, type):
        return False
    is_property = isinstance(inspect.getattr_static(owner, name, None), property)
    return is_property or _is_value(owner)


def _is_value(owner: type) -> bool:
    if dataclasses.is_dataclass(owner):
        parameters = owner.__dataclass_params__  # type: ignore[attr-defined]  # of every dataclass
        return bool(parameters.frozen)
    return issubclass(owner, tuple | enum.Enum | BaseModel)


@asynccontextmanager
async def service(folder: Path) -> AsyncIterator[tuple[Services, httpx.AsyncClient]]:
    """The shipped application with its data in `folder`, and a client of it.

    The workers of the outbox are stopped: `drain` runs its jobs in the context of its caller.
    """
    auth, app = create_service(Settings(_env_file=None, data_dir=folder, public_url=ORIGIN))
    services = auth.runtime.services
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url=ORIGIN) as client,
    ):
        await services.outbox.stop()
        yield services, client


async def unknown_caller(services: Services, client: httpx.AsyncClient) -> Request:
    """`GET /me` with a session that is not in the identity cache."""
    await _log_in(client, await _create_user(services))
    return lambda: _send(client, "GET", "/me")


async def cached_caller(services: Services, client: httpx.AsyncClient) -> Request:
    """`GET /me` with a session that is in the identity cache."""
    request = await unknown_caller(services, client)
    await request()
    return request


async def login(services: Services, client: httpx.AsyncClient) -> Request:
    """`POST /login` for a cookie session."""
    body = {"email": (await _create_user(services)).email, "password": PASSWORD}
    client.cookies.clear()
    return lambda: _send(client, "POST", "/login", json=body)


async def refresh(services: Services, client: httpx.AsyncClient) -> Request:
    """`POST /token` with a refresh token."""
    tokens = await _log_in(client, await _create_user(services), strategy="jwt")
    form = {"grant_type": "refresh_token", "refresh_token": str(tokens["refresh_token"])}
    return lambda: _send(client, "POST", "/token", data=form)


async def forgot_password(services: Services, client: httpx.AsyncClient) -> Request:
    """`POST /password/forgot`, and the jobs until its mail is sent."""
    body = {"email": (await _create_user(services)).email}

    async def request() -> None:
        await _send(client, "POST", "/password/forgot", json=body)
        if await services.outbox.drain() != 2:
            raise RuntimeError("not delivered: the deferred request and the mail that it causes")

    return request


async def delete_user(services: Services, client: httpx.AsyncClient) -> Request:
    """`DELETE /admin/users/{id}` by a superuser that is not in the identity cache."""
    target = await _create_user(services)
    await _log_in(client, await _create_user(services, is_superuser=True))
    return lambda: _send(client, "DELETE", f"/admin/users/{target.id}")


REQUESTS: Mapping[str, Callable[[Services, httpx.AsyncClient], Awaitable[Request]]] = {
    "GET /me, unknown caller": unknown_caller,
    "GET /me, cached caller": cached_caller,
    "POST /login": login,
    "POST /token, refresh": refresh,
    "POST /password/forgot, until the mail is sent": forgot_password,
    "DELETE /admin/users/{id}": delete_user,
}
"""Each prepares a request with a new account, and returns the function that sends it."""


async def _create_user(services: Services, *, is_superuser: bool = False) -> User:
    address = parse_email(next(_emails))
    return await services.accounts.registration.create(address, PASSWORD, is_superuser=is_superuser)


async def _log_in(
    client: httpx.AsyncClient, user: User, *, strategy: str = "session"
) -> Mapping[str, object]:
    client.cookies.clear()
    body = {"email": user.email, "password": PASSWORD, "strategy": strategy}
    response = await client.post("/login", json=body)
    response.raise_for_status()
    tokens: Mapping[str, object] = response.json()
    return tokens


async def _send(client: httpx.AsyncClient, method: str, path: str, **options: Any) -> None:
    response = await client.request(method, path, **options)
    response.raise_for_status()


def trace(names: Iterable[str]) -> Mapping[str, Files]:
    """The files that each of these requests enters.

    Each has an event loop of its own: threads of an earlier one would not be watched.

    Raises httpx.HTTPStatusError if a request is refused.
    """
    return {name: asyncio.run(_trace(name)) for name in names}


async def _trace(name: str) -> Files:
    with tempfile.TemporaryDirectory() as folder:
        tracer = Trace()
        with tracer.installed():
            async with service(Path(folder)) as (services, client):
                await (await REQUESTS[name](services, client))()
                request = await REQUESTS[name](services, client)
                with tracer.recording():
                    await request()
        return tracer.files


def main() -> None:
    """Print the files of each request, or of those whose name contains an argument."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("texts", nargs="*", metavar="TEXT", help="part of the name of a request")
    texts: list[str] = parser.parse_args().texts
    names = [name for name in REQUESTS if not texts or any(text in name for text in texts)]
    for variable in [name for name in os.environ if name.startswith("AUTHAPI_")]:
        del os.environ[variable]  # the figures are those of the default settings
    for name, files in trace(names).items():
        leaves = sum(entered.is_leaf for entered in files.values())
        print(f"{name}: {len(files)} files, {leaves} of them leaves")
        for path, entered in files.items():
            mark = " (leaf)" if entered.is_leaf else ""
            print(f"  {path}{mark}: {', '.join(entered.functions)}")


if __name__ == "__main__":
    main()
