"""Security events of accounts: `trail` records and reads them, `rate_limiter` bounds them."""

from authapi.services.audit.trail import Audit, log_event

__all__ = ["Audit", "log_event"]
