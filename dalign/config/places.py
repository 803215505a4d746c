"""Where the configuration files are: the repository's ``conf/`` beside the package, else the copy inside the wheel."""

from __future__ import annotations

from pathlib import Path

import dalign


def repository() -> Path | None:
    """The checkout that this package runs from, or None for an installed copy."""
    root = Path(dalign.__file__).resolve().parent.parent
    return root if (root / "pyproject.toml").is_file() and (root / "conf" / "train.yaml").is_file() else None


def config_dir() -> Path:
    """The folder of Hydra groups. The checkout goes first: an editable install may leave a stale copy beside it."""
    root = repository()
    return root / "conf" if root else Path(dalign.__file__).resolve().parent / "_conf"
