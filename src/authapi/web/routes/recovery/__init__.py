"""What is done with mail: addresses confirmed and changed, passwords chosen, invitations accepted.

One unit: where no mail is sent, none of it is there.
"""

from fastapi import APIRouter

from authapi.web.routes.recovery import addresses, passwords

router = APIRouter()
router.routes.extend([*addresses.router.routes, *passwords.router.routes])
