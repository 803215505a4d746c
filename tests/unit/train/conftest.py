"""One tiny checkpoint for all tests of this room, and one thread: sums must not depend on the machine's cores."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_stage import make_checkpoint


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)
