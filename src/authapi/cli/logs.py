"""How the service logs: lines for people in development, JSON for programs in production.

Everything goes to standard output, through the standard library's loggers, so that what libraries
say has the same form. Times are UTC. Exceptions are told without the values of variables: those may
be passwords.
"""

import logging
from typing import Any

import structlog
from structlog.typing import EventDict, Processor

from authapi.settings import Settings


def configuration(settings: Settings) -> dict[str, Any]:
    """What `logging.config.dictConfig` takes; picklable, since each worker process applies it."""
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
                    *_rendering(settings),
                ],
            }
        },
        "filters": {"on purpose": {"()": EndedOnPurpose}},
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
            "uvicorn.error": {"filters": ["on purpose"]},
        },
    }


_ON_PURPOSE = (
    "ASGI callable returned without completing handshake.",
    "ASGI callable returned without completing response.",
)


class EndedOnPurpose(logging.Filter):
    """Drops the errors that uvicorn logs where a response is left out or cut on purpose.

    It takes each refused WebSocket handshake for a fault of the application, and each download that
    a client does not take or may not read on. Clients could fill the log with these.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        return record.msg not in _ON_PURPOSE


def drop_empty(_: Any, __: str, event: EventDict) -> EventDict:
    """Leave out what has no value."""
    return {name: value for name, value in event.items() if value is not None}


def announce(message: str, **values: object) -> None:
    """One line of our own, in the form of all others."""
    logging.getLogger("authapi").info(message, extra=values)


def _rendering(settings: Settings) -> list[Processor]:
    if settings.env == "production":
        return [
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(default=str),
        ]
    # The traceback with local variables that structlog likes to show would show passwords.
    plain = structlog.dev.plain_traceback
    return [structlog.dev.ConsoleRenderer(colors=False, exception_formatter=plain)]
