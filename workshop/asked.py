"""What the programs of a lab asked of the server, counted by path; what the administrator's token did is left out.

    python workshop/asked.py [PART]    all paths, or those with PART in them

The server writes each request into its audit log (docs/AUDIT.md); `source workshop/begin` says in AUDIT_LOG where.
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any


def main() -> None:
    part = sys.argv[1] if len(sys.argv) > 1 else ""
    lines = Path(os.environ["AUDIT_LOG"]).read_text(encoding="utf-8").splitlines()
    answers = [entry for entry in map(json.loads, lines) if entry["type"] == "response" and not is_operators(entry)]
    asked = Counter((entry["request"]["path"], entry["request"]["operation"]) for entry in answers)
    for (path, operation), times in sorted(asked.items()):
        if part in path:
            print(f"{times:4}  {operation} {path}")


def is_operators(entry: dict[str, Any]) -> bool:
    """Whether it was made with the root token, or by the server itself."""
    return "root" in entry.get("auth", {}).get("policies", []) or "remote_address" not in entry["request"]


if __name__ == "__main__":
    main()
