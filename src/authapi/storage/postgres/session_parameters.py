"""The run-time parameters of PostgreSQL that each connection sets for its session.

A role, a database, the server and the environment of libpq can each have their own default for any
parameter (`ALTER ROLE ... SET`, `PGDATESTYLE`). The code relies on these, so it sets them:

* `default_transaction_isolation`: a statement after an advisory lock has to see what the previous
  holder committed, so each statement takes a new snapshot (PostgreSQL, Transaction Isolation).
* `client_encoding`, `datestyle`, `timezone`, `standard_conforming_strings`: how values are written.
* `row_security`: a query that a policy would filter fails. Otherwise rows would be missing
  silently.
* `synchronous_commit`: an acknowledged commit survives a crash of the server.
* the timeouts: if the server ended a session in the middle of its work, a lock or a request would
  be lost.

They are sent twice. First in the start-up parameter `options`, after the options of the URL. Then
in the first statement, because libpq sends `PGDATESTYLE` and `PGTZ` as parameters of their own,
which override `options`, and because a pooler may ignore `options`. Other options of the URL stay
in force.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy.engine import URL

from authapi.storage.postgres.servers import SERVER
from authapi.storage.postgres.url_parameters import environment_value

_COMMON: Mapping[str, str] = {
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
    " WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, {})"
)
"""Only `off` can lose a commit in a crash of the server. The other values, which concern replicas,
are kept."""
_OF_SESSIONS = frozenset(
    {"client_encoding", "default_transaction_isolation", "idle_session_timeout"}
)
"""Parameters without a meaning inside a transaction, or that the connection itself negotiates."""
_SINCE_VERSION = {"transaction_timeout": (170000, "0")}
"""Parameters that older servers do not have: the first server version, and the value. `options`
does not hold them, because an older server refuses a connection with an unknown parameter."""
_ESCAPED, _WITH_BACKSLASH = re.compile(r"[\s\\]", re.ASCII), r"\\\g<0>"
_LONG_SWITCH = re.compile(r"(?:-c|--)(?P<name>[^=]+)=(?P<value>.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class SessionParameters:
    """The parameters of a connection: our own, and those in the `options` of the URL."""

    own: Mapping[str, str]
    url_options: str = ""
    """The start-up parameter `options` of the URL, or of the environment (`PGOPTIONS`)."""

    @property
    def options(self) -> str:
        """The start-up parameter `options`. The last value of a name counts, so ours comes last."""
        return " ".join(filter(None, (self.url_options, format_options(self.own))))

    def arguments(self, *, with_own: bool = True) -> dict[str, str]:
        """Returns connection arguments, which replace those of the URL.

        Without our own parameters, a pooler that refuses `options` refuses only the options of the
        URL.
        """
        arguments = {"client_encoding": "utf8"}
        options = self.options if with_own else self.url_options
        return {**arguments, "options": options} if options else arguments

    def statement(self, server_version: int) -> str:
        """Returns a statement that sets our own parameters.

        Its result has one row: the process id of the session, the encoding of the database, and
        the value of `SERVER`.
        `server_version` is libpq's number, such as 180004 for version 18.4.
        """
        supported = {
            name: value
            for name, (since, value) in _SINCE_VERSION.items()
            if server_version >= since
        }
        calls = [
            f"set_config('{name}', '{value}', false)"
            for name, value in {**self.own, **supported}.items()
        ]
        return ", ".join(
            (
                f"SELECT pg_backend_pid(), current_setting('server_encoding'), {SERVER}",
                _DURABLE.format("false"),
                *calls,
            )
        )

    def local_statement(self) -> str:
        """Returns a statement that sets our own parameters until the end of its transaction.

        Those that only a session has, or that the connection itself negotiates, are left out. The
        first column of its result is the value of `SERVER`.
        """
        calls = [
            f"set_config('{name}', '{value}', true)"
            for name, value in self.own.items()
            if name not in _OF_SESSIONS
        ]
        return ", ".join((f"SELECT {SERVER}, {_DURABLE.format('true')}", *calls))

    def url_statement(self) -> tuple[str, Sequence[str]] | None:
        """Returns a statement that sets the options of the URL, with the values to bind.

        It is for poolers that ignore `options`. None if there is nothing to set.
        """
        values = {
            name: value for name, value in parse_options(self.url_options) if name not in self.own
        }
        values.pop("synchronous_commit", None)
        if not values:
            return None
        calls = ", ".join("set_config(%s, %s, false)" for _ in values)
        return f"SELECT {calls}", [text for pair in values.items() for text in pair]


def service_parameters(url: URL, *, timeout: float, max_idle: float) -> SessionParameters:
    """Returns the parameters of the service's connections to `url`.

    `timeout`, in seconds, bounds a statement and the wait for a lock. `max_idle`, in seconds, is
    how long a transaction may be idle before the server ends its session: the client's host has
    failed by then, and other sessions need the locks.

    `client_connection_check_interval` lets the server notice within half a second that the client
    dropped a connection. Without it, the locks of a cancelled request stay until its statement has
    ended.
    """
    milliseconds = str(int(timeout * 1000))
    return SessionParameters(
        {
            **_COMMON,
            "statement_timeout": milliseconds,
            "lock_timeout": milliseconds,
            "idle_in_transaction_session_timeout": str(int(max_idle * 1000)),
            "client_connection_check_interval": "500",
        },
        startup_options(url),
    )


def command_parameters(url: URL) -> SessionParameters:
    """Returns the parameters of connections that run or wait long: migrations, imports, listeners.

    `lock_timeout` keeps its default: while a migration waits for a lock on a table, all later
    statements on that table wait too. `quote_all_identifiers` is off, because it would change the
    type names that Alembic compares with the models.
    """
    unbounded = ("statement_timeout", "idle_in_transaction_session_timeout")
    return SessionParameters(
        {**_COMMON, **dict.fromkeys(unbounded, "0"), "quote_all_identifiers": "off"},
        startup_options(url),
    )


def startup_options(url: URL) -> str:
    """Returns the start-up parameter `options` that libpq would send for `url`, or an empty string.

    The query may hold `options` several times. A single backslash at the end of one is removed: it
    has no meaning (PostgreSQL, `pg_split_opts`), and would escape the space before the next one.
    """
    given = url.query.get("options")
    if given is None:
        return _environment_options()
    texts = (given,) if isinstance(given, str) else given
    return " ".join(filter(None, map(_without_open_escape, texts)))


def format_options(parameters: Mapping[str, str]) -> str:
    """Returns `parameters` in the syntax of the start-up parameter `options`."""
    words = (f"{name}={value}" for name, value in parameters.items())
    return " ".join(f"-c {_ESCAPED.sub(_WITH_BACKSLASH, word)}" for word in words)


def parse_options(options: str) -> Sequence[tuple[str, str]]:
    """Returns the names and values of the parameters in `options`, in order.

    Other switches are left out. White space separates words; a backslash escapes the character
    after it. `-c name=value`, `-cname=value` and `--name=value` are equal (PostgreSQL, `postgres`).
    """
    words, switch = _words(options), ""
    parameters = []
    for word in words:
        if word == "-c" and not switch:
            switch = word
            continue
        match = _LONG_SWITCH.fullmatch(switch + word)
        switch = ""
        if match is not None:
            parameters.append((match["name"].replace("-", "_").lower(), match["value"]))
    return parameters


def _words(options: str) -> Sequence[str]:
    escaped = re.findall(r"(?:\\.|[^\s\\])+", _without_open_escape(options), re.DOTALL | re.ASCII)
    return [re.sub(r"\\(.)", r"\1", word, flags=re.DOTALL) for word in escaped]


def _without_open_escape(options: str) -> str:
    backslashes = len(options) - len(options.rstrip("\\"))
    return options[:-1] if backslashes % 2 else options


def _environment_options() -> str:
    return _without_open_escape(environment_value("options") or "")
