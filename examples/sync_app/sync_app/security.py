"""Who calls: authapi in the database of the application, and the gates of its routes."""

from typing import Annotated

from fastapi import Depends
from pydantic import SecretStr

from authapi import AuthAPI, Settings, User, current_user
from sync_app.database import DATABASE_URL

auth = AuthAPI(Settings(database_url=SecretStr(DATABASE_URL)))

CurrentUser = Annotated[User, Depends(current_user())]
Superuser = Annotated[User, Depends(current_user(superuser=True))]
