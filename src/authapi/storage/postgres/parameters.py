"""The run-time parameters of PostgreSQL that each connection sets for itself.

A role, a database, the server and the environment of libpq can have defaults of their own for any
parameter (`ALTER ROLE ... SET`, `PGDATESTYLE`). Those that the code relies on are named here:

* `default_transaction_isolation`: a statement behind an advisory lock has to see what the holder
  before has committed, so each statement takes a new snapshot (PostgreSQL, Transaction Isolation).
* `client_encoding`, `datestyle`, `timezone`, `standard_conforming_strings`: how values are written.
* `row_security`: a query that a policy would filter fails; otherwise rows are missing silently.
* `synchronous_commit`: a commit that was answered survives a crash of the server.
* the time-outs: a session that the server ends in the middle loses a lock or a request.

They are in the start-up parameter `options`, behind what the URL has there, and are set once more
by the first statement: libpq sends `PGDATESTYLE` and `PGTZ` in parameters of their own, which count
more than `options`, and a pooler may ignore `options`. What else the URL has there stays in force.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy.engine import URL

_RELIED_ON: Mapping[str, str] = {
    "default_transaction_isolation": "read committed",
    "client_encoding": "UTF8",
    "datestyle": "ISO",
    "timezone": "UTC",
    "standard_conforming_strings": "on",
    "row_security": "off",
    "idle_session_timeout": "0",
}
_DURABLE = (
    "set_config('synchronous_commit', CASE current_setting('synchronous_commit')"
    " WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, false)"
)
"""Only `off` may lose a commit in a crash of the server; what it says of replicas is left."""
_NEWER = {"transaction_timeout": (170000, "0")}
"""From which version of the server on there is a parameter, and its value. Not for `options`."""
_ESCAPED, _WITH_BACKSLASH = re.compile(r"[\s\\]", re.ASCII), r"\\\g<0>"
_LONG_SWITCH = re.compile(r"(?:-c|--)(?P<name>[^=]+)=(?P<value>.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Parameters:
    """What is in force on a connection."""

    ours: Mapping[str, str]
    theirs: str = ""
    """The start-up parameter `options` of the URL, or of the environment (`PGOPTIONS`)."""

    @property
    def options(self) -> str:
        """The start-up parameter `options`: of a name that is in both, the last one counts."""
        return " ".join(filter(None, (self.theirs, as_options(self.ours))))

    def arguments(self, *, with_ours: bool = True) -> dict[str, str]:
        """What to connect with, in place of what the URL has.

        Without ours, a pooler that refuses `options` refuses only what the URL has there.
        """
        found = {"client_encoding": "utf8"}
        options = self.options if with_ours else self.theirs
        return {**found, "options": options} if options else found

    def statement(self, server_version: int) -> str:
        """Sets ours; gives the process id of the session and the encoding of the database.

        `server_version` is a number as libpq has it: 180004 for 18.4.
        """
        newer = {name: value for name, (since, value) in _NEWER.items() if server_version >= since}
        calls = [
            f"set_config('{name}', '{value}', false)"
            for name, value in {**self.ours, **newer}.items()
        ]
        return ", ".join(
            ("SELECT pg_backend_pid(), current_setting('server_encoding')", _DURABLE, *calls)
        )

    def statement_of_theirs(self) -> tuple[str, Sequence[str]] | None:
        """Sets those of the URL, with the values to bind, for a pooler that ignores `options`."""
        found = {name: value for name, value in named(self.theirs) if name not in self.ours}
        found.pop("synchronous_commit", None)
        if not found:
            return None
        calls = ", ".join("set_config(%s, %s, false)" for _ in found)
        return f"SELECT {calls}", [text for pair in found.items() for text in pair]


def for_service(url: URL, *, timeout: float, longest: float) -> Parameters:
    """The parameters of the service's connections to `url`.

    `timeout`, in seconds, bounds a statement and the wait for a lock; `longest`, in seconds, is how
    long a transaction may be idle before the server ends its session: the host of the client is
    gone then, and what it had locked is needed. `client_connection_check_interval` lets a backend
    notice within half a second that we have dropped its connection. Without, what a cancelled
    request had locked stays locked until the statement that it waited for is over.
    """
    milliseconds = str(int(timeout * 1000))
    return Parameters(
        {
            **_RELIED_ON,
            "statement_timeout": milliseconds,
            "lock_timeout": milliseconds,
            "idle_in_transaction_session_timeout": str(int(longest * 1000)),
            "client_connection_check_interval": "500",
        },
        options_of(url),
    )


def for_command(url: URL) -> Parameters:
    """Those of a connection that may work or wait for long: migrations, imports, listening.

    The default for `lock_timeout` stays: a migration that waits for a lock on a table makes
    everything that comes after it wait too. With `quote_all_identifiers`, the names of types that
    the models are compared with would be others.
    """
    unbounded = ("statement_timeout", "idle_in_transaction_session_timeout")
    return Parameters(
        {**_RELIED_ON, **dict.fromkeys(unbounded, "0"), "quote_all_identifiers": "off"},
        options_of(url),
    )


def options_of(url: URL) -> str:
    """The start-up parameter `options` that libpq would send for `url`; the empty text for none.

    `options` may be in the query several times. A backslash at the end of one has no meaning
    (PostgreSQL, `pg_split_opts`), and would take the meaning of the space behind it.
    """
    given = url.query.get("options")
    if given is None:
        return _of_environment()
    texts = (given,) if isinstance(given, str) else given
    return " ".join(filter(None, map(_closed, texts)))


def as_options(parameters: Mapping[str, str]) -> str:
    """`parameters` as the start-up parameter `options`."""
    words = (f"{name}={value}" for name, value in parameters.items())
    return " ".join(f"-c {_ESCAPED.sub(_WITH_BACKSLASH, word)}" for word in words)


def named(options: str) -> Sequence[tuple[str, str]]:
    """Names and values of parameters in `options`, in order; other switches are left out.

    Words are separated by white space, and a backslash takes its meaning from the character behind
    it. `-c name=value`, `-cname=value` and `--name=value` are the same (PostgreSQL, `postgres`).
    """
    words, switch = _words(options), ""
    found = []
    for word in words:
        if word == "-c" and not switch:
            switch = word
            continue
        match = _LONG_SWITCH.fullmatch(switch + word)
        switch = ""
        if match is not None:
            found.append((match["name"].replace("-", "_").lower(), match["value"]))
    return found


def _words(options: str) -> Sequence[str]:
    escaped = re.findall(r"(?:\\.|[^\s\\])+", _closed(options), re.DOTALL | re.ASCII)
    return [re.sub(r"\\(.)", r"\1", word, flags=re.DOTALL) for word in escaped]


def _closed(options: str) -> str:
    backslashes = len(options) - len(options.rstrip("\\"))
    return options[:-1] if backslashes % 2 else options


def _of_environment() -> str:
    try:
        from psycopg.pq import Conninfo  # noqa: PLC0415  # an extra
    except ImportError:
        return ""  # to connect is refused then, with what to install
    values = (option.val for option in Conninfo.get_defaults() if option.keyword == b"options")
    return _closed((next(values, None) or b"").decode(errors="surrogateescape"))
