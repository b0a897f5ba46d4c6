"""The Celery recipe with a broker that needs no server, for test_forking_frameworks.py: messages are files."""

from __future__ import annotations

import os
from pathlib import Path

from celery import Celery


def use_files(app: Celery, folder: Path, *, messages_out: str) -> None:
    """Messages are taken from `queue`. kombu does not write a file in one go, so who sends must move it there whole."""
    folders = {name: folder / name for name in ("queue", "control", "results", messages_out)}
    for each in folders.values():
        each.mkdir(exist_ok=True)
    app.conf.update(
        broker_url="filesystem://",
        result_backend=f"file://{folders['results']}",
        broker_transport_options={
            "data_folder_in": str(folders["queue"]),
            "data_folder_out": str(folders[messages_out]),
            "control_folder": str(folders["control"]),
            "polling_interval": 0.02,
        },
    )


if "CELERY_FILES" in os.environ:
    from recipes.celery_app import app

    use_files(app, Path(os.environ["CELERY_FILES"]), messages_out="queue")
