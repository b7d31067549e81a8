"""Routes that depend on mail: e-mail addresses, password resets, invitations.

They are one unit, which is not installed if the service sends no mail.
"""

from fastapi import APIRouter

from authapi.web.routes.recovery import email_addresses, passwords

router = APIRouter()
router.routes.extend([*email_addresses.router.routes, *passwords.router.routes])
