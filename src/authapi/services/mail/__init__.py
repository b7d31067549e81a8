"""Mail to the owners of accounts: kinds, templates, links and transports."""

from authapi.services.mail.delivery import OUTBOX_KIND, Mail
from authapi.services.mail.kinds import MailKind

__all__ = ["OUTBOX_KIND", "Mail", "MailKind"]
