"""Which part of a list an address names."""

import pytest
from starlette.requests import Request

from authapi.web.routes.pages.account.paging import SIZE, page_of


def request_for(page: str) -> Request:
    query = f"page={page}".encode()
    return Request({"type": "http", "method": "GET", "query_string": query, "headers": []})


@pytest.mark.parametrize(
    ("page", "first", "newer", "older"),
    [
        ("1", 0, 0, 2),
        ("2", 10, 1, 3),
        ("0003", 20, 2, 0),
        ("4", 20, 2, 0),
        ("9999", 20, 2, 0),
        # Texts that are no number show the first page.
        *((odd, 0, 0, 2) for odd in ("0", "", "-1", "x", "10000", "9" * 5000, "%D9%A2", "%C2%B2")),
    ],
)
def test_an_address_names_a_page_that_exists(page: str, first: int, newer: int, older: int) -> None:
    found = page_of(request_for(page), range(25))
    assert (list(found.items), found.newer, found.older) == (
        list(range(25))[first : first + SIZE],
        newer,
        older,
    )


@pytest.mark.parametrize(("count", "pages"), [(0, 1), (1, 1), (10, 1), (11, 2), (20, 2), (21, 3)])
def test_each_item_is_on_one_page(count: int, pages: int) -> None:
    shown, number = list[int](), 1
    for expected in range(1, pages + 1):
        assert number == expected
        page = page_of(request_for(str(number)), range(count))
        shown += page.items
        number = page.older
    assert (shown, number) == (list(range(count)), 0)
