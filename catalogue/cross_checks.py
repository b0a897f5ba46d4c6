"""What no schema sees: whether what is rendered, or was built upon it, is what the catalogue says.

The checks read files and not the renderer: a patch in an overlay is found as a slip of ours is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from catalogue import kubernetes_checks, vault_checks
from catalogue.entries import Catalogue
from catalogue.problems import Problem
from catalogue.seen import Seen

Check = Callable[[Catalogue, Seen], Iterator[Problem]]
CHECKS: tuple[Check, ...] = (
    kubernetes_checks.all_is_there,
    kubernetes_checks.namespaces_are_those_of_the_catalogue,
    kubernetes_checks.stores_are_near,
    kubernetes_checks.logins_are_their_own,
    kubernetes_checks.accounts_may_no_more,
    vault_checks.roles_let_in_their_reader_alone,
    vault_checks.paths_are_allowed,
    vault_checks.policies_are_no_wider,
    vault_checks.refresh_is_soon_enough,
    vault_checks.environments_are_apart,
    vault_checks.secrets_are_owned_and_scheduled,
)


def cross_checks(catalogue: Catalogue, seen: Seen) -> list[Problem]:
    """All that is wrong in an environment."""
    return sorted({*seen.problems, *(problem for check in CHECKS for problem in check(catalogue, seen))})
