"""`authapi secret new`."""

from pathlib import Path

from authapi.settings.service import _is_guessable
from tests.cli.conftest import Run


def test_each_secret_is_new_and_good_enough_for_production(run: Run, tmp_path: Path) -> None:
    found = {run("secret", "new").stdout.strip() for _ in range(3)}
    assert len(found) == 3
    assert all(len(text) == 64 and not _is_guessable(text) for text in found)
    assert list(tmp_path.iterdir()) == []
