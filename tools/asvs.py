"""Prints the coverage of OWASP ASVS 5.0 by chapter, and the open requirements."""

import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.security.asvs import CHAPTERS, TABLE


def main() -> None:
    """Prints one line per chapter, and one line per open requirement."""
    counts = Counter((row.chapter, row.status) for row in TABLE)
    print(f"{'chapter':<9}{'covered':>9}{'not applicable':>16}{'open':>6}")
    for chapter in CHAPTERS:
        columns = [counts[chapter, status] for status in ("covered", "not_applicable", "open")]
        print("{:<9}{:>9}{:>16}{:>6}".format(chapter, *columns))
    totals = Counter(row.status for row in TABLE)
    columns = [totals[status] for status in ("covered", "not_applicable", "open")]
    print("{:<9}{:>9}{:>16}{:>6}".format("all", *columns))
    print("\nopen:")
    for row in TABLE:
        if row.status == "open":
            print(f"  {row.id:<8} L{row.level}  {row.note}")


if __name__ == "__main__":
    main()
