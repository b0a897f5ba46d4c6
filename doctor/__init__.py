"""The doctor: goes the way of a request, from the settings to each secret, and says what is wrong and what to type.

    python vault_app.py --doctor [--json]

`examine` does it for a program. Nothing that is looked at is changed, no lease is taken unless the database's login is
asked for, and no secret stands in what is said: it is made to be pasted into a ticket.
"""

from .examination import examine
from .findings import Finding, Findings
from .report import consult

__all__ = ["Finding", "Findings", "consult", "examine"]
