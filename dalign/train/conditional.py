"""The conditional likelihood of labels within prompts: which samples of a prompt are unsafe, given how many are.

What all samples of a prompt share (its topic, how hard it is) cancels out, as it does when one of them is chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_NEVER = -1e30  # minus infinity, but with a gradient that is a number


@dataclass(frozen=True)
class Packed:
    """The P prompts that have both labels: ``index_PN`` says where their samples stand among X rows, ``exists_PN``
    which places are filled, ``unsafe_PN`` which of these are unsafe."""

    index_PN: Tensor
    exists_PN: Tensor
    unsafe_PN: Tensor


def pack(prompts: Sequence[str], labels_X: NDArray[np.float64], usable_X: NDArray[np.bool_]) -> Packed:
    """The usable rows of each prompt that has both labels among them, in order of first appearance."""
    rows_of: dict[str, list[int]] = {}
    for row in np.flatnonzero(usable_X).tolist():
        rows_of.setdefault(prompts[row], []).append(row)
    both = [rows for rows in rows_of.values() if len({labels_X[row] for row in rows}) == 2]
    n = max(map(len, both), default=0)
    index_PN = np.array([rows + rows[:1] * (n - len(rows)) for rows in both], dtype=np.int64).reshape(len(both), n)
    exists_PN = np.array([[i < len(rows) for i in range(n)] for rows in both], dtype=bool).reshape(len(both), n)
    unsafe_PN = exists_PN & (labels_X[index_PN] == 1)
    return Packed(*(torch.from_numpy(a) for a in (index_PN, exists_PN, unsafe_PN)))


def conditional_nll(logits_PN: Tensor, unsafe_PN: Tensor, exists_PN: Tensor) -> Tensor:
    """-log P(these are the unsafe ones | their number), (..., P), in nats; leading dimensions of the logits are kept.

    P is a softmax over all sets of that many samples, a set's logit being the sum of its members': the exact likelihood
    of conditional logistic regression. The sets' sum is a recursion over samples, in logarithms.
    """
    size_P = unsafe_PN.sum(-1)
    sums = logits_PN.new_full((*logits_PN.shape[:-1], int(size_P.max()) + 1), _NEVER)  # [k]: over sets of k samples
    sums[..., 0] = 0.0
    taken_PN = logits_PN.masked_fill(~exists_PN, _NEVER)
    for n in range(logits_PN.shape[-1]):
        with_n = torch.logaddexp(sums[..., 1:], sums[..., :-1] + taken_PN[..., n, None])
        sums = torch.cat([sums[..., :1], with_n], dim=-1)
    whole_P = sums.gather(-1, size_P[:, None].expand(*sums.shape[:-1], 1)).squeeze(-1)
    return whole_P - (logits_PN * unsafe_PN).sum(-1)
