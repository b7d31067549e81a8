"""Recovery codes: made with the first second factor of an account, and replaced all together."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from authapi.crypto.factors.recovery_codes import hash_recovery_code, new_recovery_code
from authapi.storage import Store


async def replace_recovery_codes(
    store: Store, user_id: UUID, *, count: int, at: datetime
) -> Sequence[str]:
    """Replaces the recovery codes of a user, who must be locked, by `count` new ones.

    Returns the new codes. The database has their hashes only.
    """
    codes = [new_recovery_code() for _ in range(count)]
    hashes = [hashed for hashed in map(hash_recovery_code, codes) if hashed is not None]
    await store.recovery_codes.replace(user_id, hashes, at=at)
    return codes
