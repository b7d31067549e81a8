"""Callers between their requests: who is known already, whether that still holds, who was seen.

`known` is the map, `coherence` keeps it true when other processes change something, and `activity`
writes down when a session was last used.
"""

from authapi.services.callers.activity import Activity
from authapi.services.callers.coherence import Coherence
from authapi.services.callers.known import Known, KnownCallers

__all__ = ["Activity", "Coherence", "Known", "KnownCallers"]
