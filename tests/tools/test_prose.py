"""tools/prose.py counts pronouns in Markdown, docstrings and comments; above its limit it fails."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "tools" / "prose.py"

CLEAN = "The resolver tries each strategy in order.\n" * 1000


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A Git repository whose one file, README.md, has 7,000 words and no pronoun."""
    (tmp_path / "README.md").write_text(CLEAN, encoding="utf-8")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    return tmp_path


def git(folder: Path, *arguments: str) -> None:
    command = ["git", "-c", "user.name=t", "-c", "user.email=t@example.com", *arguments]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)


def add(folder: Path, path: str, text: str) -> None:
    (folder / path).parent.mkdir(exist_ok=True)
    (folder / path).write_text(text, encoding="utf-8")
    git(folder, "add", ".")


def count(folder: Path, *revisions: str) -> tuple[int, dict[str, tuple[int, int]]]:
    """The exit code, and for each line of the report its words and pronouns."""
    command = [sys.executable, str(SCRIPT), *revisions]
    result = subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True)
    rows = (line.split() for line in result.stdout.splitlines()[1:])
    return result.returncode, {part: (int(words), int(hits)) for part, words, hits, _ in rows}


def test_a_tree_without_pronouns_passes(tree: Path) -> None:
    assert count(tree) == (0, {"README.md": (7000, 0), "all": (7000, 0)})


def test_a_tree_at_the_limit_passes_and_above_it_fails(tree: Path) -> None:
    add(tree, "docs/a.md", "Nobody. Whoever.")
    assert count(tree) == (0, {"README.md": (7000, 0), "docs": (2, 2), "all": (7002, 2)})
    add(tree, "docs/b.md", "somebody")
    code, rows = count(tree)
    assert (code, rows["docs"], rows["all"]) == (1, (3, 3), (7003, 3))


@pytest.mark.parametrize(
    ("path", "text", "words"),
    [
        ("src/a.py", '"""Whatever."""\nword = "nobody"\n', 1),
        ("src/b.py", 'class A:\n    x: int\n    """Of anybody."""\n', 2),
        ("src/c.py", "nobody = 1  # whosoever it is\n", 3),
        ("src/d.toml", 'nobody = "anybody"  # for whoever\n', 2),
        ("src/e.sh", "#!/bin/sh nobody\n# Somebody\n", 1),
        ("src/f.yaml", "a: nobody\n  # anybody\n", 1),
        ("src/Makefile", "nobody:\n\t@echo $# # somebody\n", 1),
    ],
)
def test_code_counts_by_its_docstrings_and_comments(
    tree: Path, path: str, text: str, words: int
) -> None:
    add(tree, path, text)
    assert count(tree)[1]["src"] == (words, 1)


def test_other_files_do_not_count(tree: Path) -> None:
    add(tree, "data/names.csv", "nobody,somebody\n")
    (tree / "untracked.md").write_text("nobody", encoding="utf-8")
    assert count(tree) == (0, {"README.md": (7000, 0), "all": (7000, 0)})


def test_a_revision_is_read_from_git_and_only_reported(tree: Path) -> None:
    add(tree, "docs/a.md", "nobody " * 10)
    git(tree, "commit", "--quiet", "-m", "Add a page")
    (tree / "docs" / "a.md").write_text("The user.", encoding="utf-8")
    assert count(tree) == (0, {"README.md": (7000, 0), "docs": (2, 0), "all": (7002, 0)})
    assert count(tree, "HEAD") == (0, {"README.md": (7000, 0), "docs": (10, 10), "all": (7010, 10)})
