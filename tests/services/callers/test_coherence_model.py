"""The argument of `services/callers/known.py`, walked through: no order of events ends in an answer
that a change forbids.

Real are `KnownCallers`, `Listening` and `Sessions`. Modelled are what lies between and around them:
the database, the connections, and time. Every message travels as slowly as the rules please, on
both ways; a connection may break, or fall silent without a word.

An answer out of memory may have missed a change only if

* the change was not acknowledged by this process itself, and
* the news of it did not get here yet, and
* it was committed less than the bound ago, and
* the connection that listens was there already when it was committed.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Generator, Iterator
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
from authapi.errors import StorageUnavailable
from authapi.identity import Identity, Session, SessionKind, User
from authapi.services.audit import Audit
from authapi.services.background import task
from authapi.services.callers import Activity, Coherence, KnownCallers, coherence, known
from authapi.services.callers.coherence import Listening
from authapi.services.sessions import Sessions
from authapi.settings import Settings
from authapi.storage import Database, Store
from authapi.storage.changes import Listener, PostgresChanges
from tests.storage.rows import a_session, a_user

BOUND = 2.0
PAUSE = BOUND / 4

USERS = 2
CREDENTIALS = tuple(hash_secret(str(number)) for number in range(2 * USERS))
SETTINGS = Settings()


def owner_of(credential: int) -> int:
    """Which user a credential belongs to: two have two each."""
    return credential % USERS


@dataclass(eq=False)
class Change:
    """A committed change of one user, and what came of it."""

    version: int
    """How often the user had been changed then."""
    at: float
    place: int
    """Where in the order of commits."""
    by: object
    acknowledged: bool = False
    heard: set[object] = field(default_factory=set)


class World:
    """What is committed, in its order, and the time."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.log: list[str] = []
        """The messages of the transactions, in the order of their commits."""
        self.changes: dict[int, Change] = {}
        """By place in `log`."""
        far = now() + timedelta(days=1)
        self.users = [replace(a_user(), name="0") for _ in range(USERS)]
        self._sessions: dict[bytes, tuple[int, Session]] = {}
        for number, credential in enumerate(CREDENTIALS):
            user = owner_of(number)
            session = a_session(self.users[user], expires_at=far, idle_expires_at=None)
            self._sessions[credential.digest] = user, session

    def commit(self, user: int, ended: int | None, by: object) -> Change:
        """Change a user, and end one of their credentials or none."""
        version = int(self.users[user].name or 0) + 1
        self.users[user] = replace(self.users[user], name=str(version))
        if ended is not None:
            self._sessions.pop(CREDENTIALS[ended].digest, None)
        change = Change(version, self.now, len(self.log), by)
        self.changes[change.place] = change
        self.log.append(self.users[user].id.hex)
        return change

    def find(self, credential: SecretHash) -> tuple[Session, User] | None:
        """What a query sees at this moment."""
        found = self._sessions.get(credential.digest)
        return None if found is None else (found[1], self.users[found[0]])

    def missed(self, identity: Identity) -> list[Change]:
        """The changes that an answer knows nothing of."""
        seen = int(identity.user.name or 0)
        texts = {place for place, text in enumerate(self.log) if text == identity.user.id.hex}
        return [
            change
            for place, change in self.changes.items()
            if place in texts and change.version > seen
        ]


@coroutine
def _standing_still() -> Generator[None, None, None]:
    yield


class Slow(Database):
    """Its one query begins, sees and answers when it is told to."""

    def __init__(self, world: World) -> None:
        self._world = world

    @asynccontextmanager
    async def read(self) -> AsyncIterator[Store]:
        yield cast(Store, SimpleNamespace(sessions=self))

    async def find_presented(
        self, secret: SecretHash, kind: SessionKind, *, since: datetime
    ) -> tuple[tuple[Session, User] | None, bool]:
        await _standing_still()
        found = self._world.find(secret)
        await _standing_still()
        return found, False


class Silent(Coherence):
    """One that is trusted or not, as a test says."""

    trusted = True

    def holds(self) -> bool:
        return self.trusted

    async def start(self) -> None:
        return None

    async def stop(self) -> None:
        return None


class Caller:
    """The real `Sessions` of one process, asked step by step."""

    def __init__(self, world: World, known: KnownCallers, coherence: Coherence) -> None:
        database = Slow(world)
        self._sessions = Sessions(
            database,
            known,
            coherence,
            Activity(database, SETTINGS),
            cast(Audit, None),
            SETTINGS,
        )

    def recall(self, credential: int) -> Identity | None:
        return self._sessions.recall(CREDENTIALS[credential], strategy="session")

    def read(self, credential: int) -> Callable[[], bool]:
        """A request that asks the database. Each call is one step; the last gives True."""
        work: Coroutine[Any, Any, object] | None = None

        def step() -> bool:
            nonlocal work
            if work is None:
                work = self._sessions.identify_secret(
                    CREDENTIALS[credential], SessionKind.SESSION, strategy="session"
                )
            try:
                work.send(None)
            except StopIteration:
                return True
            return False

        return step


READ = ("the number", "the query sees", "the answer is kept")


# All orders of a few steps.


def orders(*sequences: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Every way to do all of them, each in its own order."""
    left = [sequence for sequence in sequences if sequence]
    if not left:
        yield ()
    for index, sequence in enumerate(left):
        rest = (*left[:index], sequence[1:], *left[index + 1 :])
        for tail in orders(*rest):
            yield (sequence[0], *tail)


def merged(here: tuple[str, ...], there: tuple[str, ...]) -> tuple[str, ...]:
    """Two processes that meet in "commit" only: everything else of one leaves the other alone.

    So of all the orders that differ in nothing but who comes first between the two, this is one.
    """
    cut, other = here.index("commit"), there.index("commit")
    return (*here[:cut], *there[:other], *here[cut:], *there[other + 1 :])


def steps_of(reader: str) -> tuple[str, ...]:
    return tuple(f"{reader}: {step}" for step in (*READ, "recall"))


def is_possible(order: tuple[str, ...]) -> bool:
    """News travel after the commit; a connection that listened later does not bring them."""
    if "news" not in order:
        return True
    told = order.index("news")
    if told < order.index("commit"):
        return False
    return "lost" not in order or not order.index("commit") < order.index("listens") < told


CHANNELS = {
    "the news get through": ("news",),
    "the channel is lost and comes back": ("lost", "listens", "back"),
    "the channel is lost, comes back, and brings the news": ("lost", "listens", "back", "news"),
    "the channel is lost": ("lost",),
}


def walk(order: tuple[str, ...]) -> set[str]:
    """Takes the steps, and gives the readers whose callers were known in the end."""
    world = World()
    names = {"here": "revoker", "there": "another process", "there too": "another process"}
    processes = {}
    for name in set(names.values()):
        callers = KnownCallers(size=8, longest=timedelta(days=1))
        trust = Silent()
        processes[name] = callers, trust, Caller(world, callers, trust)
    reads = {name: processes[process][2].read(0) for name, process in names.items()}
    mine, theirs = processes["revoker"][0], processes["another process"]
    told: set[str] = set()
    changed: UUID = world.users[0].id
    recalled: set[str] = set()
    listening_since = 0
    for step in order:
        match step:
            case "commit":
                world.commit(0, 0, "revoker")
            case "changed":
                mine.changed([changed])
            case "acknowledged":
                told.add("revoker")
            case "own news":
                mine.changed([changed])
            case "news":
                theirs[0].changed([changed])
                told.add("another process")
            case "lost":
                theirs[1].trusted = False
            case "listens":
                listening_since = len(world.log)
            case "back":
                theirs[0].forget()
                theirs[1].trusted = True
                if listening_since:
                    told.add("another process")
            case _:
                name, _, what = step.partition(": ")
                if what != "recall":
                    reads[name]()
                elif (identity := processes[names[name]][2].recall(0)) is not None:
                    assert not (world.missed(identity) and names[name] in told), order
                    recalled.add(name)
        # Not only where a reader asks: nobody who asks at any moment is told what is over.
        for process in told:
            identity = processes[process][2].recall(0)
            assert identity is None or not world.missed(identity), (order, step)
    return recalled


@pytest.mark.parametrize("channel", CHANNELS)
def test_in_every_order_nobody_is_told_what_is_over(channel: str) -> None:
    revoker = ("commit", "changed", "acknowledged")
    here = [
        order
        for order in orders(steps_of("here"), revoker, ("own news",))
        if order.index("own news") > order.index("commit")
    ]
    there = [
        order
        for order in orders(steps_of("there"), ("commit",), CHANNELS[channel])
        if is_possible(order)
    ]
    # With each order here one order there and the other way round: they meet in the commit only.
    count = max(len(here), len(there))
    walked = [
        walk(merged(one, other))
        for one, other in itertools.islice(
            zip(itertools.cycle(here), itertools.cycle(there), strict=False), count
        )
    ]
    # A memory that never says yes would pass as well.
    assert any("here" in recalled for recalled in walked)
    assert any("there" in recalled for recalled in walked)


def test_in_every_order_of_two_readers_of_one_credential_in_another_process() -> None:
    for order in orders(steps_of("there"), steps_of("there too"), ("commit",), ("news",)):
        if is_possible(order):
            walk(order)


# Any order of many steps, in model time.


class ModelLoop(asyncio.SelectorEventLoop):
    """An event loop in the time of the model."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    def time(self) -> float:
        return self._world.now

    def settle(self) -> None:
        """Let everything happen that needs neither a message nor time."""

        async def turns() -> None:
            for _ in range(10):
                await asyncio.sleep(0)

        self.run_until_complete(turns())


class Line(Listener):
    """A connection. What is asked of the server is done by `serve` and answered by `answer`."""

    def __init__(self, world: World, process: object, patience: float) -> None:
        self._world = world
        self._process = process
        self._patience = patience
        self._asked: Callable[[], object] | None = None
        self._answer: asyncio.Future[None] | None = None
        self._arrived: asyncio.Queue[int | None] = asyncio.Queue()
        self.since: int | None = None
        """Where in the order of commits it began to listen."""
        self.told = 0
        """What was sent to it so far."""
        self.is_silent = False

    async def listen(self) -> None:
        await self._ask(self._begin)

    async def say(self, message: str) -> None:
        await self._ask(lambda: self._world.log.append(message))

    async def heard(self, *, within: float) -> AsyncIterator[str]:
        until = self._world.now + within
        while True:
            try:
                async with asyncio.timeout_at(until):
                    place = await self._arrived.get()
            except TimeoutError:
                return
            if place is None:
                raise ConnectionResetError
            yield self._world.log[place]
            # Whoever asks for the next has dealt with this one.
            if place in self._world.changes:
                self._world.changes[place].heard.add(self._process)

    def serve(self) -> None:
        """The question arrives and is done."""
        if not self.is_silent:
            self.serve_late()

    def serve_late(self) -> None:
        """The same, of a connection that may be lost: what is on its way may still arrive."""
        if self._asked is not None:
            asked, self._asked = self._asked, None
            asked()

    def answer(self) -> None:
        """The answer arrives."""
        waiting = self._answer
        if waiting is not None and self._asked is None and not (waiting.done() or self.is_silent):
            waiting.set_result(None)

    def deliver(self) -> bool:
        """One more message arrives, the next in the order of commits; False if there is none."""
        if self.is_silent or self.since is None or self.told == len(self._world.log):
            return False
        self._arrived.put_nowait(self.told)
        self.told += 1
        return True

    def cut(self) -> None:
        """The connection breaks, and both ends are told."""
        self.is_silent = True
        self._arrived.put_nowait(None)
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionResetError())

    def _begin(self) -> None:
        self.since = self.told = len(self._world.log)

    async def _ask(self, effect: Callable[[], object]) -> None:
        self._asked, self._answer = effect, asyncio.get_running_loop().create_future()
        async with asyncio.timeout(self._patience):
            await self._answer


class Lines(PostgresChanges):
    """The connections of one process, one after the other."""

    def __init__(self, world: World, process: object) -> None:
        self._world = world
        self._process = process
        self.line: Line | None = None
        self.former: list[Line] = []

    async def announce(self, connection: object, users: Collection[UUID]) -> None:
        raise AssertionError("in the model the world announces what is committed")

    @asynccontextmanager
    async def listening(self, *, patience: float) -> AsyncIterator[Listener]:
        self.line = line = Line(self._world, self._process, patience)
        try:
            await line.listen()
            yield line
        except OSError as error:
            raise StorageUnavailable from error
        finally:
            self.former.append(line)


class Process:
    """One that serves requests: what it knows, its channel, and who is waiting in it."""

    def __init__(self, world: World) -> None:
        self.known = KnownCallers(size=3, longest=timedelta(days=1))
        self.lines = Lines(world, self)
        self.coherence = Listening(self.lines, self.known, BOUND)
        self.caller = Caller(world, self.known, self.coherence)
        self.reads: list[Callable[[], bool]] = []
        self.committed: list[tuple[UUID, Change]] = []
        """What it has committed and not acknowledged yet."""

    @property
    def line(self) -> Line:
        assert self.lines.line is not None
        return self.lines.line


class Model:
    """Some processes on one database."""

    def __init__(self, world: World, processes: int) -> None:
        self.world = world
        self.loop = ModelLoop(self.world)
        self.processes = [Process(self.world) for _ in range(processes)]
        self._starts = [
            self.loop.create_task(process.coherence.start()) for process in self.processes
        ]
        self.loop.settle()

    def has_started(self, index: int) -> bool:
        return self._starts[index].done()

    def close(self) -> None:
        for process in self.processes:
            self.loop.run_until_complete(process.coherence.stop())
        for start in self._starts:
            start.cancel()
        self.loop.settle()
        self.loop.close()

    def breathe(self, process: Process) -> None:
        """Everything that travels between this process and the database arrives."""
        for _ in range(3):
            self.exchange(process)
            while process.line.deliver():
                self.loop.settle()

    def exchange(self, process: Process) -> None:
        """What this process asks of the database arrives, and so does the answer."""
        for step in (process.line.serve, process.line.answer):
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
        """Whether this process knows the caller; it must not if it has missed a change."""
        identity = process.caller.recall(credential)
        if identity is None:
            return False
        for change in self.world.missed(identity):
            assert not (change.by is process and change.acknowledged), "acknowledged here"
            assert process not in change.heard, "heard here"
            assert self.world.now < change.at + BOUND, "longer ago than the bound"
            since = process.line.since
            assert since is None or since <= change.place, "before this connection listened"
        return True


class Present:
    """Which model is at work, for the clock that the code under test asks."""

    world: World

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._set = monkeypatch.setattr
        clock = SimpleNamespace(monotonic=lambda: self.world.now)
        self._set(coherence, "time", clock)
        self._set(known, "time", clock)

    def begin(self, processes: int) -> Model:
        self.world = World()
        return Model(self.world, processes)

    def generations(self, count: int) -> None:
        """How many changed users are told apart."""
        self._set(known, "_GENERATIONS", count)


@pytest.fixture
def present(monkeypatch: pytest.MonkeyPatch) -> Present:
    """The model whose time it is."""
    # What is said when a model ends never arrives: nobody is to wait for it.
    monkeypatch.setattr(task, "_PATIENCE", 0)
    return Present(monkeypatch)


class AnyOrder(RuleBasedStateMachine):
    """Two processes, each of which reads, revokes, and hears or does not."""

    present: Present
    processes = st.integers(0, 1)
    credentials = st.integers(0, len(CREDENTIALS) - 1)
    users = st.integers(0, USERS - 1)
    durations = st.sampled_from([PAUSE / 4, PAUSE, 2 * PAUSE, 3 * PAUSE, BOUND])

    def __init__(self) -> None:
        super().__init__()
        self.model = self.present.begin(2)

    def teardown(self) -> None:
        self.model.close()

    @initialize(healthy=st.booleans(), generations=st.sampled_from([1, 100]))
    def begin(self, healthy: bool, generations: int) -> None:
        self.present.generations(generations)
        for process in self.model.processes if healthy else ():
            self.model.breathe(process)
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
    def a_change_is_acknowledged(self, index: int) -> None:
        process = self._at(index)
        if process.committed:
            user, change = process.committed.pop(0)
            process.known.changed([user])
            change.acknowledged = True

    @rule(index=processes, user=users)
    def a_change_fails(self, index: int, user: int) -> None:
        self._at(index).known.changed([self.model.world.users[user].id])

    @rule(index=processes)
    def a_question_arrives(self, index: int) -> None:
        self._at(index).line.serve()
        self.model.loop.settle()

    @rule(index=processes)
    def a_question_of_a_lost_channel_arrives(self, index: int) -> None:
        for line in self._at(index).lines.former:
            line.serve_late()

    @rule(index=processes)
    def an_answer_arrives(self, index: int) -> None:
        self._at(index).line.answer()
        self.model.loop.settle()

    @rule(index=processes, count=st.integers(1, 2))
    def messages_arrive(self, index: int, count: int) -> None:
        for _ in range(count):
            self._at(index).line.deliver()
        self.model.loop.settle()

    @rule(index=processes, by=processes, credential=credentials, seconds=durations)
    def a_change_overtakes_a_beat(
        self, index: int, by: int, credential: int, seconds: float
    ) -> None:
        # Nothing but other rules, in an order that chance seldom finds.
        line = self._at(index).line
        self.a_question_arrives(index)
        place = len(self.model.world.log)
        self.a_change_is_committed(by, credential, False)
        self.model.pass_time(seconds)
        self.an_answer_arrives(index)
        while line.told < place and line.deliver():
            self.model.loop.settle()

    @rule(index=processes)
    def everything_arrives(self, index: int) -> None:
        self.model.breathe(self._at(index))

    @rule(index=processes)
    def a_channel_breaks(self, index: int) -> None:
        self._at(index).line.cut()
        self.model.loop.settle()

    @rule(index=processes)
    def a_channel_falls_silent(self, index: int) -> None:
        self._at(index).line.is_silent = True

    @rule(seconds=durations)
    def time_passes(self, seconds: float) -> None:
        self.model.pass_time(seconds)

    @invariant()
    def nobody_is_told_what_is_over(self) -> None:
        for process in self.model.processes:
            for credential in range(len(CREDENTIALS)):
                self.model.check(process, credential)


@pytest.mark.slow
def test_in_any_order_nobody_is_told_what_is_over(present: Present) -> None:
    AnyOrder.present = present
    run_state_machine_as_test(
        AnyOrder, settings=settings(max_examples=200, stateful_step_count=50, deadline=None)
    )


# What the walk above would not miss if it never happened: that anybody is known.


@pytest.fixture
def model(present: Present) -> Iterator[Model]:
    found = present.begin(2)
    yield found
    found.close()


def connect(model: Model) -> tuple[Process, Process]:
    for process in model.processes:
        model.breathe(process)
        model.read(process, 0)
        assert model.check(process, 0)
    return model.processes[0], model.processes[1]


def test_whoever_hears_knows_and_goes_on_knowing(model: Model) -> None:
    listening, _ = connect(model)
    for _ in range(50):
        model.pass_time(PAUSE)
        model.breathe(listening)
        assert model.check(listening, 0)


def test_a_beat_counts_from_when_it_was_sent(model: Model) -> None:
    process = model.processes[0]
    line = process.line
    model.exchange(process)  # LISTEN
    sent_at = model.world.now
    line.serve()
    model.pass_time(PAUSE / 2)
    line.answer()
    model.pass_time(PAUSE / 2)
    assert not process.coherence.holds(), "not before it is back"
    line.deliver()
    model.loop.settle()
    assert process.coherence.holds()
    line.is_silent = True
    model.pass_time(sent_at + BOUND - model.world.now - 0.001)
    assert process.coherence.holds()
    model.pass_time(0.001)
    assert not process.coherence.holds()


def test_a_beat_that_is_overdue_is_not_missed_as_long_as_it_comes(model: Model) -> None:
    # It comes while the next one is already on its way, and then it proves less, not more.
    process, _ = connect(model)
    model.pass_time(PAUSE)
    process.line.serve()
    process.line.answer()
    model.pass_time(PAUSE)
    process.line.serve()
    model.pass_time(BOUND - 2 * PAUSE)
    assert not process.coherence.holds()
    process.line.answer()
    model.breathe(process)
    assert process.coherence.holds()


def test_the_beat_of_an_earlier_connection_proves_nothing(model: Model) -> None:
    process, other = connect(model)
    model.pass_time(PAUSE)
    lost = process.line
    lost.cut()
    model.loop.settle()
    model.pass_time(PAUSE)
    assert process.line is not lost
    model.exchange(process)  # LISTEN
    lost.serve_late()
    process.line.deliver()
    model.exchange(process)
    assert not process.coherence.holds()
    assert other.coherence.holds()
    model.breathe(process)
    assert process.coherence.holds()


def test_the_beat_of_another_process_proves_nothing(model: Model) -> None:
    first, second = model.processes
    model.exchange(first)  # LISTEN
    model.exchange(second)
    model.exchange(first)  # and a beat of each
    model.exchange(second)
    second.line.deliver()
    model.loop.settle()
    assert not second.coherence.holds()
    second.line.deliver()
    model.loop.settle()
    assert second.coherence.holds()
    assert not first.coherence.holds()


def test_a_channel_that_was_lost_comes_back_and_nothing_older_is_known(model: Model) -> None:
    process, other = connect(model)
    process.line.cut()
    model.loop.settle()
    assert not process.coherence.holds()
    model.world.commit(0, None, other)
    model.pass_time(PAUSE)
    model.breathe(process)
    assert process.coherence.holds()
    assert not model.check(process, 0)
    model.read(process, 0)
    assert model.check(process, 0)


def test_a_channel_that_fell_silent_is_given_up(model: Model) -> None:
    process, _ = connect(model)
    silent = process.line
    silent.is_silent = True
    for _ in range(9):
        model.pass_time(PAUSE)
    assert process.line is not silent
    assert not process.coherence.holds()
    model.breathe(process)
    assert process.coherence.holds()


def test_a_service_starts_without_a_channel_and_waits_no_longer_than_the_bound(
    present: Present,
) -> None:
    model = present.begin(1)
    model.pass_time(BOUND - 0.001)
    assert not model.has_started(0)
    model.pass_time(0.001)
    assert model.has_started(0)
    assert not model.processes[0].coherence.holds()
    model.close()
