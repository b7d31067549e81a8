"""`authapi users export`: writes all accounts."""

import json
import sys

from authapi.cli.services import run_with_services
from authapi.cli.terminal.progress import Progress
from authapi.cli.terminal.streams import writes_utf8
from authapi.domain.user import UserFilter
from authapi.services import Services

_PAGE = 500


def export_users() -> None:
    """Write all accounts to standard output as JSON lines, oldest first, without passwords.

    The names are those of the API. Accounts that are created meanwhile may be missing.
    """
    from authapi.web.schemas.administration import AccountOut  # pydantic models

    async def work(services: Services, progress: Progress) -> None:
        after, count, is_utf8 = None, 0, writes_utf8()
        is_watched = not sys.stdout.isatty()  # otherwise the accounts themselves show the progress
        while True:
            page = await services.accounts.administration.page(
                UserFilter(), after=after, limit=_PAGE
            )
            for user in page.items:
                line = AccountOut.of(user).model_dump(mode="json")
                sys.stdout.write(json.dumps(line, ensure_ascii=not is_utf8) + "\n")
            count += len(page.items)
            if is_watched:
                progress.show("accounts written", count)
            if page.next is None:
                return
            after = page.next

    with Progress() as progress:
        run_with_services(lambda services: work(services, progress), keys="locked")
