"""Parameters of a PostgreSQL URL: those of libpq, and hints for those of other libraries."""

from collections.abc import Collection, Mapping

_SCHEMA = "write ?options=-csearch_path%3Dname"
_TLS = "write ?sslmode=require, or verify-full"
_POOL = "AUTHAPI_DATABASE_POOL_SIZE limits the connections of a process"
_TIMEOUT = "AUTHAPI_DATABASE_TIMEOUT bounds a statement"
_STATEMENTS = "leave it out: statements are prepared unless there is a connection pooler"
_POOLER = "leave it out, and set AUTHAPI_DATABASE_POOLER for a pooler in transaction mode"
_IDLE = "leave it out"

HINTS: Mapping[str, str] = {
    **dict.fromkeys(("schema", "schemas", "currentschema", "search_path"), _SCHEMA),
    **dict.fromkeys(("ssl", "tls", "use_ssl", "usessl", "ssl_mode", "sslaccept"), _TLS),
    "sslidentity": "write ?sslcert= and ?sslkey=",
    "sslca": "write ?sslrootcert=",
    "ssl_ca": "write ?sslrootcert=",
    "pgbouncer": _POOLER,
    **dict.fromkeys(("connection_limit", "max_connections", "maxconnections"), _POOL),
    **dict.fromkeys(("pool", "pool_size", "poolsize", "max_pool_size", "max_overflow"), _POOL),
    **dict.fromkeys(("min_pool_size", "pool_min", "pool_recycle", "conn_max_age"), _IDLE),
    "pool_timeout": "AUTHAPI_DATABASE_POOL_TIMEOUT bounds the wait for a connection",
    **dict.fromkeys(("socket_timeout", "sockettimeout", "command_timeout"), _TIMEOUT),
    **dict.fromkeys(("statement_timeout", "lock_timeout", "query_timeout"), _TIMEOUT),
    **dict.fromkeys(("timeout", "logintimeout", "connecttimeout"), "write ?connect_timeout="),
    **dict.fromkeys(("prepare_threshold", "preparethreshold", "prepared_statements"), _STATEMENTS),
    **dict.fromkeys(("statement_cache_size", "prepared_statement_cache_size"), _STATEMENTS),
    "prepared_statement_name_func": _STATEMENTS,
    "statement_cache_mode": _STATEMENTS,
    **dict.fromkeys(("applicationname", "app_name"), "write ?application_name="),
    "charset": "leave it out: it is always UTF-8",
    "encoding": "leave it out: it is always UTF-8",
    "timezone": "leave it out: it is always UTC",
    "database": "write the database after the host: postgresql://host/database",
    "username": "write ?user=, or the user before the host",
    "socket": "write ?host=/folder",
    "unix_socket": "write ?host=/folder",
    "server_settings": "write ?options=-cname%3Dvalue",
    "targetservertype": "write ?target_session_attrs=",
    "load_balance": "write ?load_balance_hosts=",
}
"""What to write instead, by the name of the parameter in lower case with underscores."""


def libpq_parameters() -> Collection[str] | None:
    """Returns the parameters of the installed libpq, or None without the extra `postgres`."""
    try:
        from psycopg.pq import Conninfo  # noqa: PLC0415  # an extra
    except ImportError:
        return None
    return {option.keyword.decode() for option in Conninfo.get_defaults()}


def environment_value(parameter: str) -> str | None:
    """Returns the value that libpq has for `parameter` without a URL: that of the environment.

    None if there is none, or without the extra `postgres`.
    """
    try:
        from psycopg.pq import Conninfo  # noqa: PLC0415  # an extra
    except ImportError:
        return None
    values = (it.val for it in Conninfo.get_defaults() if it.keyword.decode() == parameter)
    value = next(values, None)
    return None if value is None else value.decode(errors="surrogateescape")
