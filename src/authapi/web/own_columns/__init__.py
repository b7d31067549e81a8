"""Routes and models with the own columns of an application, under the member `profile`."""

from authapi.web.own_columns.models import profile_of
from authapi.web.own_columns.routes import with_own_columns

__all__ = ["profile_of", "with_own_columns"]
