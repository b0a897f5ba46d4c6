"""docs/RULES.md as a page of its own: its table, a row for each rule, to be linked to as /rules#T3."""

from __future__ import annotations

import html
import re
from pathlib import Path

PAGE = Path(__file__).parent.parent / "docs" / "RULES.md"
ROW = re.compile(r"^\| ([A-Z]+\d+) \| (.*?) \| (.*?) \| (.*?) \|$", re.MULTILINE)
TEMPLATE = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>The rules</title>
<link rel="icon" href="data:,">
<style nonce="{nonce}">
:root {{ color-scheme: light dark; }}
body {{ font: 18px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 76rem; padding: 0 1.5rem;
  background: light-dark(#fff, #14171c); color: light-dark(#1a1a1a, #f0f0f0); }}
a {{ color: light-dark(#003d8f, #a8cdff); }}
table {{ border-collapse: collapse; width: 100%; }}
th, td {{ border-bottom: 1px solid light-dark(#999, #667); padding: .6rem .8rem; text-align: left;
  vertical-align: top; }}
td code {{ overflow-wrap: anywhere; }}
thead th {{ position: sticky; top: 0; background: light-dark(#fff, #14171c); }}
tr {{ scroll-margin-top: 4rem; }}
tr:target {{ outline: 3px solid light-dark(#003d8f, #a8cdff); }}
</style>
<main>
<h1>The rules</h1>
<p><a href="/">Back to the live page</a>. Each rule is a defect that somebody shipped, or a promise.</p>
<table>
<thead>
<tr><th scope="col">#</th><th scope="col">Rule</th><th scope="col">Why</th><th scope="col">Tests</th></tr>
</thead>
<tbody>
{rows}
</tbody>
</table>
</main>
</html>
"""


def rules_page(nonce: str) -> str | None:
    """The page; None where the document is not there, as in a copy of this room alone."""
    try:
        text = PAGE.read_text(encoding="utf-8")
    except OSError:
        return None
    return TEMPLATE.format(nonce=nonce, rows="\n".join(row(*found) for found in ROW.findall(text)))


def row(rule: str, says: str, why: str, tests: str) -> str:
    cells = "".join(f"<td>{inline(cell)}</td>" for cell in (says, why, tests))
    return f'<tr id="{rule}" tabindex="-1"><th scope="row">{rule}</th>{cells}</tr>'


def inline(text: str) -> str:
    """Markdown's code and emphasis; whatever else it has is shown as it is written."""
    safe = html.escape(text)
    safe = re.sub(r"`([^`]+)`", r"<code>\1</code>", safe)
    return re.sub(r"\*([^*]+)\*", r"<em>\1</em>", safe)
