"""/openapi.json of the service: compressed, and not sent again to a client that has it.

In an application, FastAPI serves the document at the address that the application chooses.
"""

import json

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from authapi.web.answers.descriptions import Document
from authapi.web.documents.files import Asset, file_response
from authapi.web.media_types import JSON

PATH = "/openapi.json"


def add_openapi_document(app: FastAPI) -> None:
    """Serves the document of `app`, which was created without an address of it."""
    app.openapi_url = PATH
    app.add_route(PATH, _OpenAPIDocument(app).read, include_in_schema=False)


class _OpenAPIDocument:
    """The document as a file."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app
        self._file = Asset.of(b"", JSON)
        self._made_of: tuple[Document, str] | None = None

    async def read(self, request: Request) -> Response:
        """The OpenAPI document."""
        document = self._app.openapi()
        root = str(request.scope.get("root_path", "")).rstrip("/")
        if self._made_of is None or self._made_of[0] is not document or self._made_of[1] != root:
            body = json.dumps(
                _with_server(document, root), ensure_ascii=False, separators=(",", ":")
            )
            self._file, self._made_of = Asset.of(body.encode(), JSON), (document, root)
        return file_response(request, self._file)


def _with_server(document: Document, root: str) -> Document:
    """Returns the document with the path at which the service is mounted, as FastAPI does.

    The public URL of the settings, if there is one, contains this path.
    """
    if not root or document.get("servers"):
        return document
    return {**document, "servers": [{"url": root}]}
