"""Each request fails at each of its statements, before it is answered as usual.

`Matrix` stands between a client and the application. A request is carried out once, and the
database is put back. Then the same request runs again and again: with the first statement refused,
with the answer to the first statement lost, with the second refused, and so on, and the contents of
the database are compared each time. In the end the client gets the first response, and the database
has what belongs to it.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import parse_qs

import httpx
from fastapi.routing import iter_route_contexts

from authapi.services import Services
from authapi.testing import Client
from tests.faults.harness.contents import Change, Contents, Observer
from tests.faults.harness.figures import SCALE
from tests.faults.harness.injection import COMMIT, Moment, Plan, following
from tests.faults.harness.polling import until

_RELEASED_WITHIN = 5.0
_COUNTED = {"authapi_totp_factors changed: failures", "authapi_login_tickets changed: attempts"}
"""A guess counts in a transaction of its own, before it is checked: otherwise a caller who breaks
the connection would guess without a limit. It stays counted if what follows fails."""
_MESSAGE = "authapi_sessions changed: data"
"""The message that the next page shows once. It is written and removed after the change of a form,
which it does not hold up."""
_STEPS: Mapping[str, Mapping[str, int]] = {
    # The account exists, and the person is led to the page that signs in.
    "POST /account/sign-up": {
        "authapi_events account_registered added": 1,
        "authapi_users added": 1,
        "authapi_email_tokens added": 1,
        "authapi_outbox added": 1,
    },
    # The password was right; it is asked for again.
    "POST /account/data/delete": {
        "authapi_events reauthenticated added": 1,
        "authapi_sessions changed: auth_time, previous_secret_hash, secret_hash": 1,
    },
    # A proof opens what is asked for next, and is of use there although this page fails.
    "POST /account/prove": {
        "authapi_events reauthenticated added": 1,
        "authapi_used_challenges added": 1,
        "authapi_passkeys changed: last_used_at": 1,
        "authapi_sessions changed: amr, auth_time, mfa_at, previous_secret_hash, secret_hash": 1,
    },
}
"""The first of two changes of a form, each of which is complete by itself."""
_CONCURRENT = {"GET /console/status"}
"""Routes whose statements run at the same time, in any order."""
_MOMENTS: tuple[Moment, Moment] = ("before", "after")


@dataclass(eq=False)
class Coverage:
    """What was tried, in all scenes of a test."""

    requests: Counter[str] = field(default_factory=Counter)
    """The requests that a scene has sent with success, by method and template of the path."""
    pairs: set[tuple[str, int]] = field(default_factory=set)
    """Routes, each with the numbers of its statements."""
    writing: set[str] = field(default_factory=set)
    """Routes that have changed rows."""
    faults: int = 0
    refused: int = 0
    """Faults that the client was told of by 503; the others did not concern its request."""
    violations: list[str] = field(default_factory=list)

    def summary(self) -> str:
        return (
            f"{len(self.requests)} routes, {len(self.writing)} of them write; "
            f"{len(self.pairs)} pairs (route, statement), {self.faults} faults, answered with 503 "
            f"{self.refused}, the others as without the fault; violations {len(self.violations)}"
        )


class Matrix(httpx.ASGITransport):
    """A transport of `api` that makes each request fail. `install` puts it there."""

    def __init__(self, api: Client, observer: Observer, coverage: Coverage) -> None:
        below = api._transport
        assert isinstance(below, httpx.ASGITransport)
        super().__init__(below.app, raise_app_exceptions=False)
        self._services: Services = api.services
        self._observer = observer
        self._coverage = coverage
        self._seen: set[object] = set()
        self._templates = [
            (method, template, re.compile(re.sub(r"\{[^}]+\}", "[^/]+", template)))
            for route in iter_route_contexts(below.app.routes)  # type: ignore[attr-defined]  # FastAPI
            for template in [re.sub(r"\{(\w+):\w+\}", r"{\1}", str(route.path))]
            for method in route.methods or ()
        ]

    @classmethod
    async def install(cls, api: Client, observer: Observer, coverage: Coverage) -> None:
        """From now on, the requests of `api` fail. Stops the background work of the service."""
        services = api.services
        await services.outbox.stop()
        await services.cleanup.stop()
        await services.last_used.stop()
        await services.keys.stop()
        await services.newest_event.stop()
        api._transport = cls(api, observer, coverage)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        body = await request.aread()
        route = self._route_of(request)
        before = self._observer.read()
        plan = Plan()
        answer = await self._send(request, body, plan)
        after = self._observer.read()
        whole = self._observer.change(before, after)
        # A redirect of a page is the answer to a form that has succeeded.
        if answer.status_code < 400:
            self._coverage.requests[route] += 1
        if whole:
            self._coverage.writing.add(route)
        key = (route, _action(request, body), answer.status_code, frozenset(whole))
        if key not in self._seen:
            self._seen.add(key)
            if whole:
                self._observer.restore(before)
            for number in range(1, len(plan.statements) + 1):
                for moment in self._moments(number, plan.statements[number - 1]):
                    fault = Plan(number, moment)
                    failed = await self._send(request, body, fault)
                    await self._check(route, before, plan, fault, answer, failed, whole)
            if whole:
                self._observer.restore(after)
        self._services.identity_cache.clear()
        return answer

    def _moments(self, number: int, statement: str) -> Sequence[Moment]:
        """The faults of a statement: in the small size, only a COMMIT has both."""
        if SCALE > 1 or statement == COMMIT:
            return _MOMENTS
        return [_MOMENTS[(number + len(self._seen)) % 2]]

    async def _check(
        self,
        route: str,
        before: Contents,
        clean: Plan,
        fault: Plan,
        answer: httpx.Response,
        failed: httpx.Response,
        whole: Change,
    ) -> None:
        coverage, number = self._coverage, fault.at
        now = self._observer.read()
        found = self._observer.change(before, now)
        is_changed, found, whole = bool(found), _without_message(found), _without_message(whole)
        is_step = dict(found) == _STEPS.get(route)
        coverage.pairs.add((route, number))
        coverage.faults += 1
        statement = clean.statements[number - 1]
        where = f"{route} ({answer.status_code}), {fault.moment} {number}, {_brief(statement)}"
        is_same = fault.statements[:number] == clean.statements[:number]
        if not (fault.has_failed and is_same) and route not in _CONCURRENT:
            sent = [_brief(it) for it in fault.statements]
            coverage.violations.append(f"{where}: other statements {sent}")
        elif failed.status_code == 503:
            coverage.refused += 1
            # The answer to a COMMIT is lost, or to a statement that is a transaction by itself.
            may_be_done = fault.moment == "after" and (
                statement == COMMIT or COMMIT not in clean.statements[number:]
            )
            is_done = may_be_done and found == whole
            if set(found) - _COUNTED and not is_done and not is_step:
                coverage.violations.append(f"{where}: 503, but {dict(found)} of {dict(whole)}")
            if "retry-after" not in failed.headers:
                coverage.violations.append(f"{where}: 503 without Retry-After")
        elif failed.status_code != answer.status_code and not (
            # The console hides itself from all who are not known to be superusers.
            failed.status_code == 404 and not found and " /console" in route
        ):
            coverage.violations.append(f"{where}: {failed.status_code} {failed.text[:300]!r}")
        elif (
            failed.status_code == answer.status_code
            and found != whole
            and not is_step
            and not _is_refusal_without_event(answer, found, whole)
        ):
            coverage.violations.append(
                f"{where}: {failed.status_code}, but {dict(found)} of {dict(whole)}"
            )
        if is_changed:
            self._observer.restore(before)
        if fault.moment == "after":
            await self._warm()

    async def _send(self, request: httpx.Request, body: bytes, plan: Plan) -> httpx.Response:
        self._services.identity_cache.clear()
        sent = httpx.Request(request.method, request.url, headers=request.headers, content=body)
        with following(plan):
            answer = await super().handle_async_request(sent)
        await answer.aread()
        try:
            await self._wait_until_released()
        except TimeoutError:
            self._coverage.violations.append(
                f"{self._route_of(request)}, {plan.moment} {plan.at}, "
                f"{_brief(plan.statements[plan.at - 1])}: a connection stays in use"
            )
            raise
        return answer

    async def _wait_until_released(self) -> None:
        """Waits until no connection is in use, which a transaction could hold open."""
        database = self._services.database
        await until(
            lambda: database.connections_in_use == 0, within=_RELEASED_WITHIN, what="released"
        )

    async def _warm(self) -> None:
        """Opens the connections that a fault has closed, so that this is no part of a request."""
        await self._services.database.ping()
        await self._services.database.identity()

    def _route_of(self, request: httpx.Request) -> str:
        path = request.url.path
        for method, template, pattern in self._templates:
            if method == request.method and (template == path or pattern.fullmatch(path)):
                return f"{method} {template}"
        return f"{request.method} {path}"


def _without_message(change: Change) -> Change:
    found = Change()
    for name, count in change.items():
        if name != _MESSAGE:
            found[name.replace(" data,", "") if "sessions changed" in name else name] += count
    return found


def _is_refusal_without_event(answer: httpx.Response, found: Change, whole: Change) -> bool:
    """Whether all that is missing is the event of a refusal, which is the same without it.

    An attacker must not be able to tell a wrong guess by an error (`Audit.record_separately`).
    """
    missing = whole - found
    return (
        answer.status_code >= 400
        and all(name.startswith("authapi_events ") and name.endswith(" added") for name in missing)
        and not found - whole
    )


def _brief(statement: str) -> str:
    return " ".join(re.sub(r"SELECT .* ?\n?FROM", "SELECT .. FROM", statement).split())[:80]


def _action(request: httpx.Request, body: bytes) -> str:
    """What a form of a page does, of those that one address takes."""
    if "form" not in request.headers.get("content-type", ""):
        return ""
    fields = parse_qs(body.decode())
    return " ".join([*sorted(fields), *fields.get("action", ()), *fields.get("grant_type", ())])
