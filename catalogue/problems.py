"""What is wrong, and the line of the catalogue where that is to be put right."""

from __future__ import annotations

from dataclasses import dataclass

from ruamel.yaml.error import MarkedYAMLError, YAMLError


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


def in_yaml(error: YAMLError) -> tuple[int, str]:
    """What is wrong with a text, and in which line, 0 if that is not known. What stands there may be a value (P1)."""
    if isinstance(error, MarkedYAMLError):
        said = str(error.problem or error.context).partition(" with value ")[0]
        return error.problem_mark.line + 1 if error.problem_mark else 0, said
    return 0, str(error).partition("\n")[0]  # such as a character that no YAML may have
