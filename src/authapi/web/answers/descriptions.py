"""Descriptions of headers and error responses, which routes declare for the OpenAPI document."""

from collections.abc import Mapping
from typing import Any

Document = dict[str, Any]
"""A part of the OpenAPI document."""

DESCRIPTIONS = {
    400: "The request is malformed.",
    401: "The request has no valid credential; `WWW-Authenticate` lists the accepted schemes.",
    403: "Not allowed.",
    404: "Not found, or not accessible to the caller.",
    408: "The body did not arrive in time.",
    409: "Conflict with existing data, or a limit is reached.",
    412: "The resource has changed.",
    413: "The body is too large.",
    415: "The content type is not supported.",
    422: "The input is invalid; `errors` has the details.",
    429: "Too many attempts; `Retry-After` has the seconds to wait.",
    431: "The request headers are too large.",
    503: "Temporarily unavailable; `Retry-After` has the seconds to wait.",
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Returns the `responses` of a route for error responses with these statuses.

    Raises KeyError for a status without a description.
    """
    return {status: {"description": DESCRIPTIONS[status]} for status in statuses}


def request_header(name: str, description: str) -> Document:
    """Returns the `openapi_extra` of a route that reads an optional header from the request."""
    return request_headers({name: description}, required=False)


def request_headers(descriptions: Mapping[str, str], *, required: bool) -> Document:
    """Returns the `openapi_extra` of a route that reads headers from the request."""
    return {
        "parameters": [
            {
                "name": name,
                "in": "header",
                "required": required,
                "schema": {"type": "string"},
                "description": description,
            }
            for name, description in descriptions.items()
        ]
    }


def response_header(name: str, description: str, *, required: bool = False) -> Document:
    """Returns the `headers` of an entry of `responses`."""
    header = {"description": description, "required": required, "schema": {"type": "string"}}
    return {"headers": {name: header}}
