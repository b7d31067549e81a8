"""tools/long_description.py: README without links that lead nowhere on an index of packages."""

import re
from pathlib import Path

import pytest
from tools.long_description import describe
from tools.release import check_rendered

ROOT = Path(__file__).resolve().parents[2]
LINKS = "https://e.example/{path}"
IMAGES = "https://i.example/{path}"


@pytest.mark.parametrize(
    ("source", "text", "absolute"),
    [
        ("[docs/a.md](docs/a.md)", "`docs/a.md`", "[docs/a.md](https://e.example/docs/a.md)"),
        ("a [b](c.md) d", "a b (`c.md`) d", "a [b](https://e.example/c.md) d"),
        ("([a](docs/a.md#x))", "(a, `docs/a.md`)", "([a](https://e.example/docs/a.md#x))"),
        ("[b](https://b.example)", "[b](https://b.example)", "[b](https://b.example)"),
        ("[b](#part)", "[b](#part)", "[b](#part)"),
        ("![p](p.png)", "", "![p](https://i.example/p.png)"),
        ("[![p](p.png)](a.md)", "", "[![p](https://i.example/p.png)](https://e.example/a.md)"),
        ("[![p](https://p.example)](a.md)", "![p](https://p.example)", "[![p](https://p.example)](https://e.example/a.md)"),
        ("```\n[a](docs/a.md)\n```", "```\n[a](docs/a.md)\n```", "```\n[a](docs/a.md)\n```"),
        ("x[0](y)[1]", "x0 (`y`)[1]", "x[0](https://e.example/y)[1]"),
    ],
)  # fmt: skip
def test_links_to_files_are_text_or_absolute(source: str, text: str, absolute: str) -> None:
    assert describe(source) == text
    assert describe(source, links=LINKS, images=IMAGES) == absolute


def test_readme_has_no_link_to_a_file_and_keeps_the_rest() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    found = describe(readme)
    targets = re.findall(r"\]\(([^)]*)\)", re.sub(r"(?ms)^```.*?^```$", "", found))
    assert all(target.startswith(("https://", "#")) for target in targets)
    assert re.findall(r"(?ms)^```.*?^```$", found) == re.findall(r"(?ms)^```.*?^```$", readme)
    assert re.findall(r"(?m)^#+ .*$", found) == re.findall(r"(?m)^#+ .*$", readme)
    assert "docs/images" not in found
    assert "`docs/settings.md`" in found


def test_a_dead_link_and_a_lost_heading_are_refused() -> None:
    check_rendered("# A\n", '<h1>A</h1><a href="https://a.example">a</a><a href="#b">b</a>')
    with pytest.raises(RuntimeError, match=r"lead nowhere: docs/a\.md"):
        check_rendered("# A\n", '<h1>A</h1><a href="docs/a.md">a</a>')
    with pytest.raises(RuntimeError, match="not rendered"):
        check_rendered("# A\n\n## B\n", "<h1>A</h1>")
