"""An application with providers, which uvicorn runs."""

import os

from fastapi import FastAPI

from authapi import AuthAPI

PREFIX = os.environ.get("TEST_PREFIX", "")
auth = AuthAPI()
app = FastAPI(lifespan=auth.lifespan)
auth.install(app, prefix=PREFIX)
