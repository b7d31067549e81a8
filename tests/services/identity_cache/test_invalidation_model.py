"""Checks the argument of `services/identity_cache/cache.py`: in no order of events does the cache
return an identity that a change forbids.

`IdentityCache`, `PostgresInvalidation` and `Sessions` are real. The database, the connections and
time are modelled. The rules delay every message in both directions as they choose; a connection may
close, or become silent without an error.

A cached identity may have missed a change only if all of these hold:

* This process has not acknowledged the change itself.
* The notification of the change has not arrived here.
* The server has signalled the change to listeners less than `max_staleness` ago, which it does
  before it acknowledges the commit. Behind a pooler: it was committed less than that ago.
* The present connection was listening already when the change was committed.
"""

import asyncio
import itertools
from collections.abc import (
    AsyncIterator,
    Callable,
    Collection,
    Coroutine,
    Generator,
    Iterator,
    Sequence,
)
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from types import SimpleNamespace, coroutine
from typing import Any, cast
from uuid import UUID

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from authapi.clock import now
from authapi.crypto.secrets import SecretHash, hash_secret
from authapi.domain.identity import Identity
from authapi.domain.session import Session, SessionKind
from authapi.domain.user import User
from authapi.errors import StorageUnavailable
from authapi.services.audit import Audit
from authapi.services.hooks import Hooks
from authapi.services.identity_cache import (
    CacheInvalidation,
    IdentityCache,
    LastUsed,
    cache,
    invalidation,
)
from authapi.services.identity_cache.invalidation import PostgresInvalidation
from authapi.services.jobs import periodic_task
from authapi.services.sessions.service import RecordLogin, Sessions
from authapi.settings import Settings
from authapi.storage import Database
from authapi.storage.notifications import Listener, PostgresNotifications
from authapi.storage.tables.sessions import SessionLookups
from tests.storage.rows import a_session, a_user

MAX_STALENESS = 2.0
HEARTBEAT_INTERVAL = MAX_STALENESS / 4

USERS = 2
CREDENTIALS = tuple(hash_secret(str(number)) for number in range(2 * USERS))
SETTINGS = Settings()


def owner_of(credential: int) -> int:
    """The user of a credential: each of the two users has two."""
    return credential % USERS


@dataclass(eq=False)
class Change:
    """A committed change of one user, and which processes know it."""

    version: int
    """The number of changes of this user up to and including this one."""
    at: float
    place: int
    """The position in the order of commits."""
    by: object
    acknowledged: bool = False
    received_by: set[object] = field(default_factory=set)
    signalled_at: float | None = None


class World:
    """The committed state of the database, the order of commits, and the time."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.log: list[str] = []
        """The notifications of the transactions, in the order of their commits."""
        self.changes: dict[int, Change] = {}
        """By position in `log`."""
        self.signalled = 0
        """The number of notifications that the server has signalled to its listeners."""
        far = now() + timedelta(days=1)
        self.users = [replace(a_user(), name="0") for _ in range(USERS)]
        self._sessions: dict[bytes, tuple[int, Session]] = {}
        for number, credential in enumerate(CREDENTIALS):
            user = owner_of(number)
            session = a_session(self.users[user], expires_at=far, idle_expires_at=None)
            self._sessions[credential.digest] = user, session

    def commit(self, user: int, ended: int | None, by: object) -> Change:
        """Changes a user, and ends the credential `ended` if it is not None."""
        version = int(self.users[user].name or 0) + 1
        self.users[user] = replace(self.users[user], name=str(version))
        if ended is not None:
            self._sessions.pop(CREDENTIALS[ended].digest, None)
        change = Change(version, self.now, len(self.log), by)
        self.changes[change.place] = change
        self.log.append(self.users[user].id.hex)
        return change

    def signal(self, change: Change) -> None:
        """Signals a change, after its commit. The listeners then read all that is committed."""
        if self.signalled <= change.place:
            self._signal_all()

    def send(self, message: str) -> None:
        """Commits and signals a message."""
        self.log.append(message)
        self._signal_all()

    def _signal_all(self) -> None:
        for place in range(self.signalled, len(self.log)):
            if place in self.changes:
                self.changes[place].signalled_at = self.now
        self.signalled = len(self.log)

    def find(self, credential: SecretHash) -> tuple[Session, User] | None:
        """The result of a query at this moment."""
        found = self._sessions.get(credential.digest)
        return None if found is None else (found[1], self.users[found[0]])

    def missed(self, identity: Identity) -> list[Change]:
        """The changes that were committed after `identity` was read."""
        seen = int(identity.user.name or 0)
        texts = {place for place, text in enumerate(self.log) if text == identity.user.id.hex}
        return [
            change
            for place, change in self.changes.items()
            if place in texts and change.version > seen
        ]


@coroutine
def _suspend() -> Generator[None, None, None]:
    yield


class ModelDatabase(Database):
    """A database with one query."""

    def __init__(self, world: World) -> None:
        self._world = world

    @property
    def sessions(self) -> SessionLookups:
        return ModelLookups(self._world)


class ModelLookups(SessionLookups):
    """The query, which begins, reads and returns in separate steps."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def find_by_current_or_previous_secret(
        self, secret: SecretHash, kind: SessionKind, *, since: datetime
    ) -> tuple[tuple[Session, User] | None, bool]:
        await _suspend()
        found = self._world.find(secret)
        await _suspend()
        return found, False


class FixedTrust(CacheInvalidation):
    """Invalidation whose result a test sets."""

    is_trusted, lag = True, 0.0

    def is_current(self) -> bool:
        return self.is_trusted

    async def start(self) -> None:
        return None

    async def stop(self) -> None:
        return None


class Caller:
    """The real `Sessions` of one process, called step by step."""

    def __init__(self, world: World, cache: IdentityCache, invalidation: CacheInvalidation) -> None:
        database = ModelDatabase(world)
        self._sessions = Sessions(
            database,
            cache,
            invalidation,
            LastUsed(database, SETTINGS),
            cast(RecordLogin, None),
            cast(Audit, None),
            Hooks(timeout=1),
            SETTINGS,
        )

    def cached(self, credential: int) -> Identity | None:
        return self._sessions.get_cached(CREDENTIALS[credential], strategy="session")

    def read(self, credential: int) -> Callable[[], bool]:
        """A request that queries the database. Each call is one step; the last returns True."""
        work: Coroutine[Any, Any, object] | None = None

        def step() -> bool:
            nonlocal work
            if work is None:
                work = self._sessions.identify_by_secret(
                    CREDENTIALS[credential], SessionKind.SESSION, strategy="session"
                )
            try:
                work.send(None)
            except StopIteration:
                return True
            return False

        return step


READ = ("take a snapshot", "query", "put")


# Every order of a few steps.


def orders(*sequences: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Every interleaving of the sequences, each in its own order."""
    left = [sequence for sequence in sequences if sequence]
    if not left:
        yield ()
    for index, sequence in enumerate(left):
        rest = (*left[:index], sequence[1:], *left[index + 1 :])
        for tail in orders(*rest):
            yield (sequence[0], *tail)


def merged(here: tuple[str, ...], there: tuple[str, ...]) -> tuple[str, ...]:
    """One interleaving of two processes that share only the step "commit".

    The other steps of one process do not affect the other process, so one interleaving stands for
    all that differ only in the order between the two.
    """
    cut, other = here.index("commit"), there.index("commit")
    return (*here[:cut], *there[:other], *here[cut:], *there[other + 1 :])


def steps_of(reader: str) -> tuple[str, ...]:
    return tuple(f"{reader}: {step}" for step in (*READ, "recall"))


def is_possible(order: tuple[str, ...]) -> bool:
    """Whether the notification follows the commit, on a connection that was listening then."""
    if "notification" not in order:
        return True
    notified = order.index("notification")
    if notified < order.index("commit"):
        return False
    return "lost" not in order or not order.index("commit") < order.index("listening") < notified


CONNECTIONS = {
    "the notification arrives": ("notification",),
    "the connection is lost and replaced": ("lost", "listening", "reconnected"),
    "the connection is lost, replaced, and delivers the notification": (
        "lost",
        "listening",
        "reconnected",
        "notification",
    ),
    "the connection is lost": ("lost",),
}


def walk(order: tuple[str, ...]) -> set[str]:
    """Runs the steps. Returns the readers that found the identity in the cache at the end."""
    world = World()
    names = {"here": "revoker", "there": "another process", "there too": "another process"}
    processes = {}
    for name in set(names.values()):
        callers = IdentityCache(size=8, ttl=timedelta(days=1))
        trust = FixedTrust()
        processes[name] = callers, trust, Caller(world, callers, trust)
    reads = {name: processes[process][2].read(0) for name, process in names.items()}
    mine, theirs = processes["revoker"][0], processes["another process"]
    must_know: set[str] = set()
    changed: UUID = world.users[0].id
    recalled: set[str] = set()
    listening_since = 0
    for step in order:
        match step:
            case "commit":
                world.commit(0, 0, "revoker")
            case "invalidate":
                mine.invalidate([changed])
            case "acknowledged":
                must_know.add("revoker")
            case "own notification":
                mine.invalidate([changed])
            case "notification":
                theirs[0].invalidate([changed])
                must_know.add("another process")
            case "lost":
                theirs[1].is_trusted = False
            case "listening":
                listening_since = len(world.log)
            case "reconnected":
                theirs[0].clear()
                theirs[1].is_trusted = True
                if listening_since:
                    must_know.add("another process")
            case _:
                name, _, what = step.partition(": ")
                if what != "recall":
                    reads[name]()
                elif (identity := processes[names[name]][2].cached(0)) is not None:
                    assert not (world.missed(identity) and names[name] in must_know), order
                    recalled.add(name)
        # After every step, not only where a reader looks, no ended session may be in the cache.
        for process in must_know:
            identity = processes[process][2].cached(0)
            assert identity is None or not world.missed(identity), (order, step)
    return recalled


@pytest.mark.parametrize("case", CONNECTIONS)
def test_in_every_order_no_ended_session_is_returned(case: str) -> None:
    revoker = ("commit", "invalidate", "acknowledged")
    here = [
        order
        for order in orders(steps_of("here"), revoker, ("own notification",))
        if order.index("own notification") > order.index("commit")
    ]
    there = [
        order
        for order in orders(steps_of("there"), ("commit",), CONNECTIONS[case])
        if is_possible(order)
    ]
    # Pair each order of one process with one of the other: they share only the commit.
    count = max(len(here), len(there))
    walked = [
        walk(merged(one, other))
        for one, other in itertools.islice(
            zip(itertools.cycle(here), itertools.cycle(there), strict=False), count
        )
    ]
    # A cache without any hit would pass as well.
    assert any("here" in recalled for recalled in walked)
    assert any("there" in recalled for recalled in walked)


def test_in_every_order_of_two_readers_of_one_credential() -> None:
    for order in orders(steps_of("there"), steps_of("there too"), ("commit",), ("notification",)):
        if is_possible(order):
            walk(order)


# Random orders of many steps, in model time.


class ModelLoop(asyncio.SelectorEventLoop):
    """An event loop that runs in the time of the model."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    def time(self) -> float:
        return self._world.now

    def settle(self) -> None:
        """Runs everything that waits neither for a message nor for time."""

        async def turns() -> None:
            for _ in range(10):
                await asyncio.sleep(0)

        self.run_until_complete(turns())


class ModelConnection(Listener):
    """A connection. `serve` executes the pending request, `answer` returns its response."""

    def __init__(
        self, world: World, process: object, operation_timeout: float, *, is_pooled: bool
    ) -> None:
        self._world = world
        self._process = process
        self._operation_timeout = operation_timeout
        self.is_pooled = is_pooled
        self._unprocessed: list[int] = []
        self._request: Callable[[], object] | None = None
        self._response: asyncio.Future[None] | None = None
        self._arrived: asyncio.Queue[int | None] = asyncio.Queue()
        self.since: int | None = None
        """The position in the order of commits at which it began to listen."""
        self.delivered = 0
        """The number of messages sent to it."""
        self.is_silent = False

    async def listen(self) -> None:
        await self._send_request(self._begin)

    async def send(self, message: str) -> None:
        """Stands for a statement on another connection, behind the same pooler."""
        await self._send_request(lambda: self._world.send(message))

    async def beat(self) -> Sequence[str]:
        self._note_processed()
        # The server sends what it was signalled, and then its answer.
        await self._send_request(self._flush)
        found = list[str]()
        while not self._arrived.empty():
            place = self._arrived.get_nowait()
            if place is None:
                raise ConnectionResetError
            found.append(self._world.log[place])
            self._unprocessed.append(place)
        return found

    def _flush(self) -> None:
        while self.deliver():
            pass

    def _note_processed(self) -> None:
        # The consumer has processed messages when it asks for more.
        for place in self._unprocessed:
            if place in self._world.changes:
                self._world.changes[place].received_by.add(self._process)
        self._unprocessed.clear()

    async def receive(self, *, max_wait: float) -> AsyncIterator[str]:
        self._note_processed()
        until = self._world.now + max_wait
        while True:
            try:
                async with asyncio.timeout_at(until):
                    place = await self._arrived.get()
            except TimeoutError:
                return
            if place is None:
                raise ConnectionResetError
            yield self._world.log[place]
            self._unprocessed.append(place)
            self._note_processed()

    def serve(self) -> None:
        """The request arrives and is executed."""
        if not self.is_silent:
            self.serve_delayed()

    def serve_delayed(self) -> None:
        """As `serve`, also on a closed connection: a request in transit may still arrive."""
        if self._request is not None:
            request, self._request = self._request, None
            request()

    def answer(self) -> None:
        """The response arrives."""
        waiting = self._response
        if waiting is not None and self._request is None and not (waiting.done() or self.is_silent):
            waiting.set_result(None)

    def deliver(self) -> bool:
        """Delivers the next message in the order of commits. Returns False if there is none."""
        if self.is_silent or self.since is None or self.delivered >= self._world.signalled:
            return False
        self._arrived.put_nowait(self.delivered)
        self.delivered += 1
        return True

    def cut(self) -> None:
        """Closes the connection with an error at both ends."""
        self.is_silent = True
        self._arrived.put_nowait(None)
        if self._response is not None and not self._response.done():
            self._response.set_exception(ConnectionResetError())

    def _begin(self) -> None:
        self.since = self.delivered = len(self._world.log)

    async def _send_request(self, effect: Callable[[], object]) -> None:
        self._request, self._response = effect, asyncio.get_running_loop().create_future()
        async with asyncio.timeout(self._operation_timeout):
            await self._response


class ModelNotifications(PostgresNotifications):
    """The successive connections of one process."""

    def __init__(self, world: World, process: object, *, is_pooled: bool) -> None:
        self._world = world
        self._process = process
        self._is_pooled = is_pooled
        self.connection: ModelConnection | None = None
        self.former: list[ModelConnection] = []

    async def notify(self, connection: object, users: Collection[UUID]) -> None:
        raise AssertionError("in the model the world sends the notifications")

    def shares_server(self, listener: Listener) -> bool:
        return True

    async def send(self, message: str) -> None:
        assert self.connection is not None
        await self.connection.send(message)

    @asynccontextmanager
    async def listen(self, *, operation_timeout: float) -> AsyncIterator[Listener]:
        self.connection = connection = ModelConnection(
            self._world, self._process, operation_timeout, is_pooled=self._is_pooled
        )
        try:
            await connection.listen()
            yield connection
        except OSError as error:
            raise StorageUnavailable from error
        finally:
            self.former.append(connection)


class Process:
    """A process that serves requests: its cache, its connection, and the reads in progress."""

    def __init__(self, world: World, *, is_pooled: bool) -> None:
        self.is_pooled = is_pooled
        self.cache = IdentityCache(size=3, ttl=timedelta(days=1))
        self.connections = ModelNotifications(world, self, is_pooled=is_pooled)
        self.invalidation = PostgresInvalidation(
            self.connections, [self.cache.invalidate], MAX_STALENESS
        )
        self.caller = Caller(world, self.cache, self.invalidation)
        self.reads: list[Callable[[], bool]] = []
        self.committed: list[tuple[UUID, Change]] = []
        """Changes that it has committed and not yet acknowledged."""

    @property
    def connection(self) -> ModelConnection:
        assert self.connections.connection is not None
        return self.connections.connection


class Model:
    """Several processes on one database."""

    def __init__(self, world: World, processes: int, *, is_pooled: bool) -> None:
        self.world = world
        self.loop = ModelLoop(self.world)
        self.processes = [Process(self.world, is_pooled=is_pooled) for _ in range(processes)]
        self._starts = [
            self.loop.create_task(process.invalidation.start()) for process in self.processes
        ]
        self.loop.settle()

    def has_started(self, index: int) -> bool:
        return self._starts[index].done()

    def close(self) -> None:
        for process in self.processes:
            self.loop.run_until_complete(process.invalidation.stop())
        for start in self._starts:
            start.cancel()
        self.loop.settle()
        self.loop.close()

    def deliver_all(self, process: Process) -> None:
        """Delivers everything in transit between this process and the database."""
        for _ in range(3):
            self.exchange(process)
            while process.connection.deliver():
                self.loop.settle()

    def exchange(self, process: Process) -> None:
        """Delivers the request of this process, and the response."""
        for step in (process.connection.serve, process.connection.answer):
            step()
            self.loop.settle()

    def pass_time(self, seconds: float) -> None:
        self.world.now += seconds
        self.loop.settle()

    def read(self, process: Process, credential: int) -> None:
        step = process.caller.read(credential)
        while not step():
            pass

    def check(self, process: Process, credential: int) -> bool:
        """Whether the cache returns the identity. Fails if it must not have missed a change."""
        identity = process.caller.cached(credential)
        if identity is None:
            return False
        for change in self.world.missed(identity):
            assert not (change.by is process and change.acknowledged), "acknowledged here"
            assert process not in change.received_by, "notification received here"
            at = change.at if process.is_pooled else change.signalled_at
            is_recent = at is None or self.world.now < at + MAX_STALENESS
            assert is_recent, "longer ago than max_staleness"
            since = process.connection.since
            assert since is None or since <= change.place, "before this connection listened"
        return True


class CurrentModel:
    """The model whose time the code under test reads."""

    world: World

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._set = monkeypatch.setattr
        clock = SimpleNamespace(monotonic=lambda: self.world.now)
        self._set(invalidation, "time", clock)
        self._set(cache, "time", clock)

    def begin(self, processes: int, *, is_pooled: bool = False) -> Model:
        self.world = World()
        return Model(self.world, processes, is_pooled=is_pooled)

    def limit_versions(self, count: int) -> None:
        """Limits how many changed users have a version of their own."""
        self._set(cache, "_MAX_USER_VERSIONS", count)


@pytest.fixture
def current_model(monkeypatch: pytest.MonkeyPatch) -> CurrentModel:
    """The current model."""
    # The last message of a model never arrives: do not wait for it.
    monkeypatch.setattr(periodic_task, "_GRACE", 0)
    return CurrentModel(monkeypatch)


class AnyOrder(RuleBasedStateMachine):
    """Two processes that read, revoke, and receive notifications or not."""

    current_model: CurrentModel
    is_pooled = False
    processes = st.integers(0, 1)
    credentials = st.integers(0, len(CREDENTIALS) - 1)
    users = st.integers(0, USERS - 1)
    durations = st.sampled_from(
        [
            HEARTBEAT_INTERVAL / 4,
            HEARTBEAT_INTERVAL,
            2 * HEARTBEAT_INTERVAL,
            3 * HEARTBEAT_INTERVAL,
            MAX_STALENESS,
        ]
    )

    def __init__(self) -> None:
        super().__init__()
        self.model = self.current_model.begin(2, is_pooled=self.is_pooled)

    def teardown(self) -> None:
        self.model.close()

    @initialize(healthy=st.booleans(), max_versions=st.sampled_from([1, 100]))
    def begin(self, healthy: bool, max_versions: int) -> None:
        self.current_model.limit_versions(max_versions)
        for process in self.model.processes if healthy else ():
            self.model.deliver_all(process)
            for credential in range(len(CREDENTIALS)):
                self.model.read(process, credential)

    def _at(self, index: int) -> Process:
        return self.model.processes[index]

    @rule(index=processes, credential=credentials, steps=st.integers(1, 2))
    def a_read_begins(self, index: int, credential: int, steps: int) -> None:
        step = self._at(index).caller.read(credential)
        for _ in range(steps):
            step()
        self._at(index).reads.append(step)

    @rule(index=processes, which=st.integers(0, 1))
    def a_read_goes_on(self, index: int, which: int) -> None:
        reads = self._at(index).reads
        if reads and reads[which % len(reads)]():
            del reads[which % len(reads)]

    @rule(index=processes, credential=credentials)
    def a_read_at_once(self, index: int, credential: int) -> None:
        self.model.read(self._at(index), credential)

    @rule(index=processes, credential=credentials, ends=st.booleans())
    def a_change_is_committed(self, index: int, credential: int, ends: bool) -> None:
        user, process = owner_of(credential), self._at(index)
        change = self.model.world.commit(user, credential if ends else None, process)
        process.committed.append((self.model.world.users[user].id, change))

    @rule(index=processes)
    def a_change_is_signalled(self, index: int) -> None:
        process = self._at(index)
        if process.committed:
            self.model.world.signal(process.committed[-1][1])

    @rule(index=processes)
    def a_change_is_acknowledged(self, index: int) -> None:
        process = self._at(index)
        if process.committed:
            user, change = process.committed.pop(0)
            self.model.world.signal(change)
            process.cache.invalidate([user])
            change.acknowledged = True

    @rule(index=processes, user=users)
    def a_change_fails(self, index: int, user: int) -> None:
        self._at(index).cache.invalidate([self.model.world.users[user].id])

    @rule(index=processes)
    def a_request_arrives(self, index: int) -> None:
        self._at(index).connection.serve()
        self.model.loop.settle()

    @rule(index=processes)
    def a_request_of_a_closed_connection_arrives(self, index: int) -> None:
        for connection in self._at(index).connections.former:
            connection.serve_delayed()

    @rule(index=processes)
    def a_response_arrives(self, index: int) -> None:
        self._at(index).connection.answer()
        self.model.loop.settle()

    @rule(index=processes, count=st.integers(1, 2))
    def messages_arrive(self, index: int, count: int) -> None:
        for _ in range(count):
            self._at(index).connection.deliver()
        self.model.loop.settle()

    @rule(index=processes, by=processes, credential=credentials, seconds=durations)
    def a_change_overtakes_a_heartbeat(
        self, index: int, by: int, credential: int, seconds: float
    ) -> None:
        # A sequence of other rules that random choice seldom finds.
        connection = self._at(index).connection
        self.a_request_arrives(index)
        place = len(self.model.world.log)
        self.a_change_is_committed(by, credential, False)
        self.model.pass_time(seconds)
        self.a_response_arrives(index)
        while connection.delivered < place and connection.deliver():
            self.model.loop.settle()

    @rule(index=processes)
    def everything_arrives(self, index: int) -> None:
        self.model.deliver_all(self._at(index))

    @rule(index=processes)
    def a_connection_closes(self, index: int) -> None:
        self._at(index).connection.cut()
        self.model.loop.settle()

    @rule(index=processes)
    def a_connection_becomes_silent(self, index: int) -> None:
        self._at(index).connection.is_silent = True

    @rule(seconds=durations)
    def travel_to(self, seconds: float) -> None:
        self.model.pass_time(seconds)

    @invariant()
    def no_ended_session_is_returned(self) -> None:
        for process in self.model.processes:
            for credential in range(len(CREDENTIALS)):
                self.model.check(process, credential)


class AnyOrderBehindPooler(AnyOrder):
    """The same, with heartbeats that are notifications of another connection."""

    is_pooled = True


@pytest.mark.slow
@pytest.mark.parametrize("machine", [AnyOrder, AnyOrderBehindPooler])
def test_in_random_orders_no_ended_session_is_returned(
    current_model: CurrentModel, machine: type[AnyOrder]
) -> None:
    machine.current_model = current_model
    run_state_machine_as_test(
        machine, settings=settings(max_examples=200, stateful_step_count=50, deadline=None)
    )


# The tests above would pass if the cache had no hits. These need hits.


@pytest.fixture
def pooled(current_model: CurrentModel) -> Iterator[Model]:
    """Two processes behind a pooler."""
    found = current_model.begin(2, is_pooled=True)
    yield found
    found.close()


@pytest.fixture
def direct(current_model: CurrentModel) -> Iterator[Model]:
    """Two processes without a pooler."""
    found = current_model.begin(2)
    yield found
    found.close()


@pytest.fixture(params=["direct", "pooled"])
def model(request: pytest.FixtureRequest, current_model: CurrentModel) -> Iterator[Model]:
    """Two processes."""
    found = current_model.begin(2, is_pooled=request.param == "pooled")
    yield found
    found.close()


def connect(model: Model) -> tuple[Process, Process]:
    for process in model.processes:
        model.deliver_all(process)
        model.read(process, 0)
        assert model.check(process, 0)
    return model.processes[0], model.processes[1]


def test_a_process_with_heartbeats_keeps_its_cache(model: Model) -> None:
    listening, _ = connect(model)
    for _ in range(50):
        model.pass_time(HEARTBEAT_INTERVAL)
        model.deliver_all(listening)
        assert model.check(listening, 0)


def test_a_heartbeat_behind_a_pooler_counts_from_when_it_was_sent(pooled: Model) -> None:
    process = pooled.processes[0]
    connection = process.connection
    pooled.exchange(process)  # LISTEN
    sent_at = pooled.world.now
    connection.serve()
    pooled.pass_time(HEARTBEAT_INTERVAL / 2)
    connection.answer()
    pooled.pass_time(HEARTBEAT_INTERVAL / 2)
    assert not process.invalidation.is_current(), "not before it is back"
    connection.deliver()
    pooled.loop.settle()
    assert process.invalidation.is_current()
    connection.is_silent = True
    pooled.pass_time(sent_at + MAX_STALENESS - pooled.world.now - 0.001)
    assert process.invalidation.is_current()
    pooled.pass_time(0.001)
    assert not process.invalidation.is_current()


def test_a_late_heartbeat_is_accepted(pooled: Model) -> None:
    # It arrives after the next one was sent, and then proves the shorter time.
    process, _ = connect(pooled)
    pooled.pass_time(HEARTBEAT_INTERVAL)
    process.connection.serve()
    process.connection.answer()
    pooled.pass_time(HEARTBEAT_INTERVAL)
    process.connection.serve()
    pooled.pass_time(MAX_STALENESS - 2 * HEARTBEAT_INTERVAL)
    assert not process.invalidation.is_current()
    process.connection.answer()
    pooled.deliver_all(process)
    assert process.invalidation.is_current()


def test_a_heartbeat_of_an_earlier_connection_is_ignored(pooled: Model) -> None:
    process, other = connect(pooled)
    pooled.pass_time(HEARTBEAT_INTERVAL)
    lost = process.connection
    lost.cut()
    pooled.loop.settle()
    pooled.pass_time(HEARTBEAT_INTERVAL)
    assert process.connection is not lost
    pooled.exchange(process)  # LISTEN
    lost.serve_delayed()
    process.connection.deliver()
    pooled.exchange(process)
    assert not process.invalidation.is_current()
    assert other.invalidation.is_current()
    pooled.deliver_all(process)
    assert process.invalidation.is_current()


def test_a_heartbeat_of_another_process_is_ignored(pooled: Model) -> None:
    first, second = pooled.processes
    pooled.exchange(first)  # LISTEN
    pooled.exchange(second)
    pooled.exchange(first)  # and a heartbeat of each
    pooled.exchange(second)
    second.connection.deliver()
    pooled.loop.settle()
    assert not second.invalidation.is_current()
    second.connection.deliver()
    pooled.loop.settle()
    assert second.invalidation.is_current()
    assert not first.invalidation.is_current()


def test_a_heartbeat_without_a_pooler_counts_from_when_it_was_sent(direct: Model) -> None:
    process = direct.processes[0]
    direct.exchange(process)  # LISTEN
    sent_at = direct.world.now
    process.connection.serve()
    direct.pass_time(HEARTBEAT_INTERVAL)
    assert not process.invalidation.is_current(), "not before the answer"
    process.connection.answer()
    direct.loop.settle()
    assert process.invalidation.is_current()
    process.connection.is_silent = True
    direct.pass_time(sent_at + MAX_STALENESS - direct.world.now - 0.001)
    assert process.invalidation.is_current()
    direct.pass_time(0.001)
    assert not process.invalidation.is_current()


def test_a_heartbeat_has_passed_what_was_acknowledged_before_it(direct: Model) -> None:
    process, other = connect(direct)
    change = direct.world.commit(0, None, other)
    direct.pass_time(HEARTBEAT_INTERVAL)
    direct.exchange(process)
    assert direct.check(process, 0), (
        "the backend of the other process has signalled no listener yet"
    )
    direct.world.signal(change)
    direct.pass_time(HEARTBEAT_INTERVAL)
    direct.exchange(process)
    assert not direct.check(process, 0)
    assert process.invalidation.is_current()


def test_notifications_are_received_while_no_heartbeat_can_be_sent(pooled: Model) -> None:
    process, other = connect(pooled)
    pooled.pass_time(HEARTBEAT_INTERVAL)  # the next heartbeat waits for a free connection
    pooled.world.signal(pooled.world.commit(0, None, other))
    while process.connection.deliver():  # also heartbeats of the other process
        pass
    pooled.pass_time(HEARTBEAT_INTERVAL)
    assert process.invalidation.is_current()
    assert not pooled.check(process, 0)
    pooled.deliver_all(process)
    assert process.invalidation.is_current()


def test_no_heartbeat_passes_a_pooler_that_has_taken_the_session_away(pooled: Model) -> None:
    process, other = connect(pooled)
    lost = process.connection
    lost.since = None  # what is sent to the session goes to another client
    pooled.world.signal(pooled.world.commit(0, None, other))
    for _ in range(9):
        pooled.pass_time(HEARTBEAT_INTERVAL)
        pooled.exchange(process)
    assert process.connection is not lost
    pooled.deliver_all(process)
    assert process.invalidation.is_current()
    assert not pooled.check(process, 0)


def test_after_a_reconnect_no_earlier_entry_is_used(model: Model) -> None:
    process, other = connect(model)
    process.connection.cut()
    model.loop.settle()
    assert not process.invalidation.is_current()
    model.world.commit(0, None, other)
    model.pass_time(HEARTBEAT_INTERVAL)
    model.deliver_all(process)
    assert process.invalidation.is_current()
    assert not model.check(process, 0)
    model.read(process, 0)
    assert model.check(process, 0)


def test_a_silent_connection_is_replaced(model: Model) -> None:
    process, _ = connect(model)
    silent = process.connection
    silent.is_silent = True
    for _ in range(9):
        model.pass_time(HEARTBEAT_INTERVAL)
    assert process.connection is not silent
    assert not process.invalidation.is_current()
    model.deliver_all(process)
    assert process.invalidation.is_current()


def test_a_service_starts_without_a_connection_after_max_staleness(
    current_model: CurrentModel,
) -> None:
    model = current_model.begin(1)
    model.pass_time(MAX_STALENESS - 0.001)
    assert not model.has_started(0)
    model.pass_time(0.001)
    assert model.has_started(0)
    assert not model.processes[0].invalidation.is_current()
    model.close()
