"""Puts a line into a Python file below one that stands there, as an editor would, and shows where.

python -m workshop.insert FILE 'the line that stands there' 'the new line'
"""

from __future__ import annotations

import sys
from pathlib import Path


def main(file: str, known: str, new: str) -> int:
    path = Path(file)
    lines = path.read_text(encoding="utf-8").splitlines()
    places = [number for number, line in enumerate(lines) if line.strip() == known]
    if len(places) != 1:
        print(f"{file}: found {len(places)} lines {known!r}, expected one; nothing was changed", file=sys.stderr)
        return 1
    indented = lines[places[0]].replace(known, new)
    if indented not in lines:
        lines.insert(places[0] + 1, indented)
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"  {lines[places[0]]}", f"+ {indented}", sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
