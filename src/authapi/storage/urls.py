"""Parses the database URLs of SQLite and PostgreSQL.

PostgreSQL URLs are read as libpq reads them (PostgreSQL, 34.1.1.2, Connection URIs): each part is
percent-encoded, a host that begins with a slash is the directory of a Unix socket, and there can be
several hosts, each with its port. The parameters are those of libpq. Error messages never contain a
value of the URL, because every value may be a password.
"""

import os
import re
from collections.abc import Mapping, Sequence
from urllib.parse import parse_qsl, unquote, unquote_to_bytes

from sqlalchemy.engine import URL

from authapi.errors import ConfigurationError
from authapi.storage.postgres.url_parameters import HINTS, environment_value, libpq_parameters

_POSTGRES = re.compile(
    r"(?:(?P<user>[^:/?@]*)(?::(?P<password>[^/?@]*))?@)?"
    r"(?P<hosts>[^/?@]*)(?:/(?P<database>[^?]*))?(?:\?(?P<query>.*))?",
    re.DOTALL,
)
_HOST = re.compile(r"(?:\[(?P<v6>[^\]]*)\]|(?P<name>[^:\[\]]*))(?::(?P<port>[0-9]*))?", re.ASCII)
_ESCAPES = "in a password, @ : / ? # are written %40 %3A %2F %3F %23"
_REPEATABLE = frozenset({"host", "options"})
"""Parameters that may be given several times. Their values are combined."""


def parse_url(text: str) -> URL:
    """Returns `text` as a URL with its driver: psycopg 3 for PostgreSQL, aiosqlite for SQLite.

    Raises ConfigurationError if it is invalid, names another kind of database, or has a parameter
    that libpq does not have.
    """
    scheme, separator, rest = text.strip().partition("://")
    backend = scheme.partition("+")[0].lower()
    if not separator:
        raise _refused("cannot be read: it must begin with postgresql:// or sqlite:///")
    if backend not in {"postgresql", "postgres", "sqlite"}:
        raise _refused("must begin with postgresql:// or sqlite:///")
    if not all(character.isprintable() for character in rest.replace(" ", "")):
        raise _refused("must not contain line breaks or other control characters")
    return _sqlite(rest) if backend == "sqlite" else _postgres(rest)


def _sqlite(rest: str) -> URL:
    path, query, _ = rest.partition("?")
    if query:
        # SQLAlchemy would read the rest of the path as parameters, and open another file.
        raise _refused("has no parameters for SQLite: write ? in a path as %3F")
    file = os.fsdecode(unquote_to_bytes(path.removeprefix("/")))
    if not path.startswith("/") or not file or file == ":memory:" or file.startswith("file:"):
        # Each connection would have its own in-memory database.
        raise _refused("must name a file: sqlite:///path")
    _require_no_nul("its path", file)
    return URL.create("sqlite+aiosqlite", database=os.path.expanduser(file))  # noqa: PTH111  # a string is needed


def _postgres(rest: str) -> URL:
    match = _POSTGRES.fullmatch(rest)
    if match is None or (match["user"] is None and "@" in rest.partition("?")[0]):
        raise _refused(f"cannot be read: {_ESCAPES}")
    user, password = (_decoded(name, match[name]) for name in ("user", "password"))
    query = _parameters(match["query"] or "")
    host, port = None, None
    hosts = match["hosts"].split(",") if match["hosts"] and "host" not in query else []
    if len(hosts) == 1 and not _is_socket_directory(_host(hosts[0])[0]):
        host, number = _host(hosts[0])
        port = int(number) if number else None
    else:
        query |= _several(hosts, query)
    return URL.create(
        "postgresql+psycopg",
        username=user,
        password=password,
        host=host,
        port=port,
        database=_decoded("database", match["database"]) or None,
        query=query,
    )


def _host(text: str) -> tuple[str, str]:
    match = _HOST.fullmatch(text)
    if match is None or not _is_port(match["port"] or ""):
        raise _refused("cannot be read")
    name = match["v6"] if match["name"] is None else match["name"]
    return _decoded("host", name) or "", match["port"] or ""


def _several(hosts: Sequence[str], query: Mapping[str, str | Sequence[str]]) -> dict[str, str]:
    # Returns the hosts as parameters, because SQLAlchemy supports several hosts and socket
    # directories only there. Each host gets a port; libpq also accepts one port for all of them.
    given = query.get("host", ())
    if isinstance(given, str):
        is_plain = "," in given or _is_socket_directory(given) or given.count(":") != 1
        pairs = [(name, "") for name in given.split(",")] if is_plain else [_host(given)]
    else:
        pairs = [_host(text) for text in (*hosts, *given)]
    if not pairs:
        return {}
    port = query.get("port")
    if isinstance(port, str):
        ports = port.split(",")
        ports = ports * len(pairs) if len(ports) == 1 else ports
    else:
        ports = [number for _, number in pairs]
    if len(ports) != len(pairs):
        raise _refused(f"names {len(ports)} ports for {len(pairs)} hosts")
    parameters = {"host": ",".join(name for name, _ in pairs)}
    if len(pairs) > 1 and environment_value("target_session_attrs") in {None, "any"}:
        # A service writes: of a primary and its standbys, it needs the primary.
        parameters["target_session_attrs"] = str(query.get("target_session_attrs", "read-write"))
    return parameters | {"port": ",".join(ports)} if any(ports) else parameters


def _is_port(text: str) -> bool:
    return not text or (text.isascii() and text.isdigit() and 0 < int(text[:6]) < 65536)


def _is_socket_directory(host: str) -> bool:
    # @ begins the name of an abstract socket (Linux).
    return host.startswith(("/", "@"))


def _parameters(query: str) -> dict[str, str | Sequence[str]]:
    parameters: dict[str, str | Sequence[str]] = {}
    values: dict[str, list[str]] = {}
    try:
        pairs = parse_qsl(query, errors="strict")
    except (UnicodeDecodeError, ValueError):
        raise _refused("has a parameter that is not UTF-8") from None
    for name, value in pairs:
        _require_no_nul(f"the parameter {_printable(name)}", value)
        if name == "port" and not all(map(_is_port, value.split(","))):
            raise _refused("must name a port as a number from 1 to 65535")
        values.setdefault(name, []).append(value)
    _require_libpq_parameters(values)
    for name, given in values.items():
        if len(given) > 1 and name not in _REPEATABLE:
            raise _refused(f"has the parameter {_printable(name)} several times")
        parameters[name] = given[0] if len(given) == 1 else tuple(given)
    return parameters


def _require_libpq_parameters(parameters: Mapping[str, object]) -> None:
    known = libpq_parameters()
    for name in parameters:
        hint = HINTS.get(name.lower().replace("-", "_"))
        if (known is None and hint is None) or (known is not None and name in known):
            continue
        reason = f"has the parameter {_printable(name)}, which PostgreSQL's libpq does not know"
        raise _refused(reason if hint is None else f"{reason}: {hint}")


def _decoded(part: str, text: str | None) -> str | None:
    if text is None:
        return None
    try:
        decoded = unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise _refused(f"has a {part} that is not UTF-8") from None
    _require_no_nul(f"its {part}", decoded)
    return decoded


def _require_no_nul(part: str, text: str) -> None:
    # libpq and SQLite would silently use only the text before the NUL.
    if "\0" in text:
        raise _refused(f"contains a NUL (%00) in {part}")


def _printable(name: str) -> str:
    return "".join(c if c.isascii() and c.isprintable() else "?" for c in name[:40])


def _refused(reason: str) -> ConfigurationError:
    return ConfigurationError(f"the database URL {reason}")
