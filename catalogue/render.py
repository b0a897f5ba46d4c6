"""All that is rendered from the catalogue."""

from __future__ import annotations

from catalogue.alerts import alerts
from catalogue.entries import Catalogue
from catalogue.kubernetes_side import kubernetes_side
from catalogue.rendered import Tree
from catalogue.vault_side import vault_side


def render(catalogue: Catalogue) -> Tree:
    return {**vault_side(catalogue), **kubernetes_side(catalogue), **alerts(catalogue)}
