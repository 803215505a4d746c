"""What probes read of samples: hidden states, or facts of the text, one layer at a time in float64."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dalign.specs.probe import Baseline
from dalign.train.rows import Rows

MAX_WORDS, MAX_ENDINGS = 1000, 64


@dataclass(frozen=True)
class Features:
    """The features of X samples at each layer: ``states_RLD`` float32, less ``minus_RLD`` if there is one.

    ``rows_X`` says which row is a sample's, where several share one. A row with a NaN is a sample without features.
    """

    states_RLD: Tensor
    minus_RLD: Tensor | None = None
    rows_X: Tensor | None = None

    @property
    def layers(self) -> int:
        return self.states_RLD.shape[1]

    @property
    def width(self) -> int:
        return self.states_RLD.shape[2]

    @property
    def missing(self) -> Tensor:
        """Which samples have no features, (X,) bool."""
        missing_R = _holed(self.states_RLD)
        if self.minus_RLD is not None:
            missing_R = missing_R | _holed(self.minus_RLD)
        return missing_R if self.rows_X is None else missing_R[self.rows_X]

    def __len__(self) -> int:
        return self.layers

    def __iter__(self) -> Iterator[tuple[int, Tensor]]:
        """(layer, features (X, D)), 0 where a sample has none: float64 of all at once would not fit in memory."""
        missing_X = self.missing
        for layer in range(self.layers):
            values_RD = self.states_RLD[:, layer].double()
            if self.minus_RLD is not None:
                values_RD = values_RD - self.minus_RLD[:, layer].double()
            values_XD = values_RD if self.rows_X is None else values_RD[self.rows_X]
            yield layer, values_XD.masked_fill(missing_X[:, None], 0.0)


def _holed(states_RLD: Tensor) -> Tensor:
    return torch.stack([states_RLD[:, layer].isnan().any(1) for layer in range(states_RLD.shape[1])]).any(0)


def baseline_features(name: Baseline, rows: Rows) -> Features:
    """What a classifier without states sees of each sample, as one layer: ``length`` its number of tokens and the
    logarithm; ``ending`` its last token's id, whether it finished, and its length; ``words`` which words stand in it
    (the thousand that most samples have)."""
    return Features(_BASELINES[name](rows)[:, None])


def _length(rows: Rows) -> Tensor:
    tokens_X = torch.tensor([len(ids) for ids in rows.response_ids]).float()
    return torch.stack([tokens_X, tokens_X.log1p()], dim=1)


def _ending(rows: Rows) -> Tensor:
    endings = [(ids[-1],) if ids else () for ids in rows.response_ids]
    finished_X = torch.tensor(rows.finished).float()
    return torch.cat([_presence(endings, MAX_ENDINGS), finished_X[:, None], _length(rows)], dim=1)


def _words(rows: Rows) -> Tensor:
    return _presence([set(re.findall(r"\w+", text.casefold())) for text in rows.texts], MAX_WORDS)


def _presence(found: Sequence[Sequence[int] | set[str]], most: int) -> Tensor:
    """(X, W) 1 where a sample has one of the things that most samples have; chosen without a label."""
    counts: Counter[int | str] = Counter(thing for things in found for thing in things)
    known = sorted(counts, key=lambda thing: (-counts[thing], str(thing)))[:most]
    column = {thing: i for i, thing in enumerate(known)}
    out = torch.zeros(len(found), max(len(known), 1))
    for row, things in enumerate(found):
        out[row, [column[thing] for thing in things if thing in column]] = 1.0
    return out


_BASELINES: Mapping[Baseline, Callable[[Rows], Tensor]] = {"length": _length, "ending": _ending, "words": _words}
