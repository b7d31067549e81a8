"""Application services, independent of HTTP and of SQL.

`Services` is the container: it creates all services, and strategies and routes receive it.
"""

from authapi.services.container import Services
from authapi.services.logins.proved import Login
from authapi.services.sessions.lifetime import Lifetime

__all__ = ["Lifetime", "Login", "Services"]
