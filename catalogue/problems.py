"""What is wrong, and the line of the catalogue where that is to be put right."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Problem:
    """One thing that is wrong. `line` is of the catalogue; 0, if it is about no line of it."""

    line: int
    text: str
    file: str = ""
    """The rendered file that it was seen in, if any."""

    def told(self, catalogue: str) -> str:
        """As compilers say it: an editor jumps to the line."""
        place = f"{catalogue}:{self.line}" if self.line else catalogue
        return f"{place}: {self.file}: {self.text}" if self.file else f"{place}: {self.text}"
