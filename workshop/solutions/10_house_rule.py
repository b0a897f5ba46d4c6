"""Lab 10: a rule of one's own house: what people replace by hand is replaced at least every 60 days.

python workshop/solutions/10_house_rule.py kubernetes/catalogue.yaml
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from catalogue.entries import Catalogue, Stored
from catalogue.problems import Problem
from catalogue.reading import load

DAY = 24 * 3600
LONGEST_BY_HAND = 60 * DAY


def by_hand_and_rarely(catalogue: Catalogue) -> Iterator[Problem]:
    """An entry that several environments have is one line, and so is told of once."""
    for service in catalogue.services:
        for entry in service.entries:
            if isinstance(entry, Stored) and not entry.provider and entry.rotate > LONGEST_BY_HAND:
                days = entry.rotate // DAY
                yield Problem(entry.line, f"{service.name}/{entry.name}: replaced by hand every {days} days, over 60")


def main(file: str) -> int:
    catalogue = load(Path(file))
    problems = sorted(by_hand_and_rarely(catalogue))
    for problem in problems:
        print(problem.told(catalogue.file))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
