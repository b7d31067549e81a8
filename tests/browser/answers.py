"""The answers of the service to requests that a test has intercepted."""

from playwright.sync_api import APIResponse, Route


def fetched(route: Route) -> APIResponse:
    """Sends the intercepted request, which must be safe to repeat, and returns its response.

    Playwright keeps the connections of its own requests open. The service closes one after five
    idle seconds, and a request that is just being sent on it then fails with ECONNRESET, which
    a browser repeats on a new connection. So does this function.
    """
    return route.fetch(max_retries=3)
