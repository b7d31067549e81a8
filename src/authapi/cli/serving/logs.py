"""Configures logging: text lines in development, JSON lines in production.

All records go to standard output through the loggers of the standard library, so that records of
libraries have the same form. Times are UTC. Tracebacks do not contain the values of variables,
which may be passwords.
"""

import logging
import sys
from typing import TYPE_CHECKING, Any

from authapi.settings import Settings

# structlog imports rich, where typer has installed it, for coloured tracebacks, which a service
# does not print: six MiB. With None in its place, structlog does without.
if _has_to_hide := "rich" not in sys.modules:
    sys.modules["rich"] = None  # type: ignore[assignment]  # what makes an import fail
try:
    import structlog
finally:
    if _has_to_hide:
        del sys.modules["rich"]

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor


def configuration(settings: Settings) -> dict[str, Any]:
    """Returns the argument of `logging.config.dictConfig`. Picklable: each worker applies it."""
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "structured": {
                "()": structlog.stdlib.ProcessorFormatter,
                "foreign_pre_chain": shared,
                "processors": [
                    structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                    drop_empty,
                    *_renderers(settings),
                ],
            }
        },
        "filters": {"intentional aborts": {"()": DropIntentionalAborts}},
        "handlers": {
            "stdout": {
                "class": "logging.StreamHandler",
                "stream": "ext://sys.stdout",
                "formatter": "structured",
            }
        },
        "root": {"handlers": ["stdout"], "level": "WARNING"},
        "loggers": {
            "authapi": {"level": "INFO"},
            "uvicorn.error": {"filters": ["intentional aborts"]},
        },
    }


_INTENTIONAL_ABORTS = (
    "ASGI callable returned without completing handshake.",
    "ASGI callable returned without completing response.",
)


class DropIntentionalAborts(logging.Filter):
    """Drops errors that uvicorn logs although the application ended a response intentionally.

    uvicorn logs an error for each rejected WebSocket handshake, and for each download that the
    application ends because the client stopped reading or lost its permission. Clients could fill
    the log with these.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        return record.msg not in _INTENTIONAL_ABORTS


def drop_empty(_: Any, __: str, event: "EventDict") -> "EventDict":
    """Removes fields whose value is None."""
    return {name: value for name, value in event.items() if value is not None}


def log_info(message: str, **values: object) -> None:
    """Logs one line at level INFO, with `values` as fields."""
    logging.getLogger("authapi").info(message, extra=values)


def _renderers(settings: Settings) -> "list[Processor]":
    if settings.env == "production":
        return [
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(default=str),
        ]
    # The default traceback of structlog shows local variables, which may be passwords.
    plain = structlog.dev.plain_traceback
    return [structlog.dev.ConsoleRenderer(colors=False, exception_formatter=plain)]
