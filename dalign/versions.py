"""What a result depends on besides its configuration: packages, revisions, the code's commit, threads, machine."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from dalign.toy.world import WORLD_VERSION

PACKAGES = ("dalign", "torch", "transformers", "peft", "lightning", "hydra-core", "numpy", "tokenizers", "bitsandbytes")


def versions(config: Mapping[str, Any]) -> dict[str, Any]:
    """Packages, git sha and dirty flag of the code, and the seed, dtype, threads and revisions of ``config``."""
    model = config.get("model") or {}
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in PACKAGES},
        "world_version": WORLD_VERSION,
        "git": _git(Path(__file__).parent),
        "seed": config.get("seed"),
        "dtype": model.get("dtype"),
        "revision": model.get("revision"),
        "threads": _threads(),
        "cpus": os.cpu_count(),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _threads() -> int | None:
    torch = sys.modules.get("torch")
    return int(torch.get_num_threads()) if torch else None


def _git(folder: Path) -> dict[str, Any] | None:
    """The commit the code stands at; null for an installed package."""
    try:
        sha = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, timeout=10)
        dirty = subprocess.run(["git", "status", "--porcelain"], cwd=folder, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return {"sha": sha.stdout.strip(), "dirty": bool(dirty.stdout.strip())} if sha.returncode == 0 else None
