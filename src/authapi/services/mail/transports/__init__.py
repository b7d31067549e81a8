"""Transports for mail: SMTP, a folder, standard output."""

from authapi.services.mail.transports.transport import Transport, create_transport

__all__ = ["Transport", "create_transport"]
