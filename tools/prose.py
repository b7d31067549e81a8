"""Count the indefinite pronouns in the prose of the repository: Markdown, docstrings, comments.

Usage: `python tools/prose.py [REVISION...]`. Without a revision it reads the tracked files of the
working tree, and exits with 1 if they contain more than LIMIT pronouns in 1,000 words. With
revisions it reads their files from Git and only reports.
"""

import argparse
import ast
import io
import re
import subprocess
import sys
import tarfile
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

LIMIT = 0.3
"""Pronouns in 1,000 words."""

WORD = re.compile(r"[A-Za-z]+(?:'[A-Za-z]+)*")
PRONOUN = re.compile(r"\b(?:somebody|nobody|anybody|whoever|whosoever|whatever)\b", re.IGNORECASE)
HASH_COMMENT = re.compile(r"(?:^|\s)#(?!!)(.*)")
HASH_NAMES = ("Makefile", "Dockerfile")
HASH_SUFFIXES = (".sh", ".toml", ".yaml", ".yml")


def prose(path: str, text: str) -> str:
    """The prose of one file: all of a Markdown file, docstrings and comments of code, else "".

    Raises SyntaxError if a Python file does not parse.
    """
    name = PurePosixPath(path)
    if name.suffix == ".md":
        return text
    if name.suffix == ".py":
        return "\n".join([*_docstrings(path, text), *_comments(text)])
    if name.suffix in HASH_SUFFIXES or name.name in HASH_NAMES:
        return "\n".join(match[1] for line in text.splitlines() for match in _hash(line))
    return ""


def _docstrings(path: str, text: str) -> Iterator[str]:
    # A string that is a statement is a docstring, of an attribute too.
    for node in ast.walk(ast.parse(text, path)):
        match node:
            case ast.Expr(value=ast.Constant(value=str(docstring))):
                yield docstring


def _comments(text: str) -> Iterator[str]:
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.string


def _hash(line: str) -> Iterator[re.Match[str]]:
    if match := HASH_COMMENT.search(line):
        yield match


def working_tree() -> Iterator[tuple[str, str]]:
    """Path and text of the tracked files below the current folder."""
    listed = subprocess.run(["git", "ls-files", "-z"], check=True, capture_output=True)  # noqa: S607
    for path in listed.stdout.decode().split("\0"):
        # A tracked file may be deleted and not yet committed.
        if path and Path(path).is_file():
            yield path, Path(path).read_text(encoding="utf-8", errors="replace")


def revision(name: str) -> Iterator[tuple[str, str]]:
    """Path and text of the files of a Git revision."""
    command = ["git", "archive", "--format=tar", name]
    archive = subprocess.run(command, check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for member in tar:
            file = tar.extractfile(member) if member.isfile() else None
            if file is not None:
                yield member.name, file.read().decode(errors="replace")


def report(title: str, files: Iterator[tuple[str, str]]) -> float:
    """Prints a line for each top-level folder or file, and returns the pronouns in 1,000 words."""
    words: Counter[str] = Counter()
    pronouns: Counter[str] = Counter()
    for path, text in files:
        part = path.partition("/")[0]
        found = prose(path, text)
        words[part] += len(WORD.findall(found))
        pronouns[part] += len(PRONOUN.findall(found))
    print(f"{title:<20}{'words':>9}{'pronouns':>10}{'in 1,000':>10}")
    rows = [(part, words[part], pronouns[part]) for part in sorted(words) if words[part]]
    rows.append(("all", words.total(), pronouns.total()))
    for part, number, hits in rows:
        print(f"{part:<20}{number:>9}{hits:>10}{1000 * hits / max(number, 1):>10.2f}")
    return 1000 * pronouns.total() / max(words.total(), 1)


def main() -> int:
    """Report on the working tree or the revisions given; 1 if the tree is above LIMIT."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("revisions", nargs="*", metavar="REVISION")
    revisions: list[str] = parser.parse_args().revisions
    for name in revisions:
        report(name, revision(name))
    if revisions:
        return 0
    rate = report("working tree", working_tree())
    if rate > LIMIT:
        print(f"{rate:.2f} pronouns in 1,000 words, of at most {LIMIT}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
