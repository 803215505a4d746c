"""Folds for out-of-fold fits: every group lies in exactly one of them, and their sizes are as equal as groups allow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dalign.errors import DataError
from dalign.records import digest


def group_folds(groups: Sequence[str], folds: int, *, seed: int) -> NDArray[np.int64]:
    """The fold of each row, 0 to ``folds - 1``; rows of a group share theirs. It depends on no order of the rows.

    Largest group first (equal ones by a hash of name and seed), each into the fold that is smallest so far. Raises
    ``DataError`` for fewer groups than folds: some fold would be empty.
    """
    sizes = Counter(groups)
    if len(sizes) < folds:
        raise DataError(f"stage.folds={folds}: there are {len(sizes)} groups of prompts, fewer than folds")
    fold_of: dict[str, int] = {}
    filled = [0] * folds
    for group in sorted(sizes, key=lambda name: (-sizes[name], digest("fold", seed, name))):
        fold_of[group] = min(range(folds), key=lambda f: filled[f])
        filled[fold_of[group]] += sizes[group]
    return np.array([fold_of[group] for group in groups], dtype=np.int64)
