"""Flower's messages can only be made inside a task of a run."""

import os

import pytest
from flwr.supercore.task_identity import TaskIdentity

os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True)
def task_identity() -> None:
    TaskIdentity.task_id = TaskIdentity.run_id = 1
    TaskIdentity.node_id = 1
