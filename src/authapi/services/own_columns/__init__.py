"""Members of accounts that the application declares (`authapi.Profile`, `docs/own-columns.md`)."""

from authapi.services.own_columns.columns import OwnColumns
from authapi.services.own_columns.models import ProfileInput, ProfileModels

__all__ = ["OwnColumns", "ProfileInput", "ProfileModels"]
