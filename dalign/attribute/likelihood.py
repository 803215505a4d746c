"""Likelihood scores of a response from the logits at its positions, student against base (pure functions).

Row t of the logits is the distribution that response token t was drawn from. Each score is a value a token and a way to
make one number of them; to add one, add a function and a line to ``FLAT_SCORES``. Equations:
arXiv 2604.09665, listed in docs/paper_map.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

CACHED_FLOATS = 1 << 18  # of one model's log-probabilities at a time on a CPU: larger ones go to memory and back


@dataclass(frozen=True)
class Distributions:
    """Log-probabilities (T, V) of student and base at the same T positions, and the token ids drawn there (T,)."""

    student_TV: Tensor
    base_TV: Tensor
    tokens_T: Tensor


def kl(p_TV: Tensor, q_TV: Tensor) -> Tensor:
    """KL(p || q) in nats at each position, (T,), from log-probabilities."""
    return (p_TV.exp() * (p_TV - q_TV)).sum(-1)


def self_certainty(p_TV: Tensor) -> Tensor:
    """KL(uniform || p) in nats, (T,): ``-(1/V) Σ_v log(V p_v)`` (Kang et al. 2025, arXiv 2502.18581)."""
    return -p_TV.mean(-1) - math.log(p_TV.shape[-1])


def gini(p_TV: Tensor) -> Tensor:
    """Gini impurity ``1 - Σ_v p_v²`` in [0, 1), (T,)."""
    return 1.0 - p_TV.exp().square().sum(-1)


def token_logp(p_TV: Tensor, tokens_T: Tensor) -> Tensor:
    """Log-probability of each token drawn, (T,); NaN for ids outside the vocabulary compared."""
    known = tokens_T < p_TV.shape[-1]
    picked = p_TV.gather(-1, torch.where(known, tokens_T, 0).unsqueeze(-1)).squeeze(-1)
    return torch.where(known, picked, torch.nan)


def mean(values_T: Tensor) -> float:
    """Mean over the response in float64, tokens without a value left out; NaN if none has one."""
    return float(values_T.double().nanmean())


def perplexity(logp_T: Tensor) -> float:
    """``exp(-mean log p)``, infinite where float64 ends."""
    exponent = -mean(logp_T)
    return math.exp(exponent) if not exponent > 700.0 else math.inf


@dataclass(frozen=True)
class FlatScore:
    """A score of a whole response: ``per_token`` gives (T,), ``reduce`` one float."""

    per_token: Callable[[Distributions], Tensor]
    reduce: Callable[[Tensor], float] = mean


FLAT_SCORES: dict[str, FlatScore] = {
    "kl": FlatScore(lambda d: kl(d.student_TV, d.base_TV)),
    "reverse_kl": FlatScore(lambda d: kl(d.base_TV, d.student_TV)),
    "ppl_student": FlatScore(lambda d: token_logp(d.student_TV, d.tokens_T), perplexity),
    "ppl_base": FlatScore(lambda d: token_logp(d.base_TV, d.tokens_T), perplexity),
    "self_certainty": FlatScore(lambda d: self_certainty(d.student_TV)),
    "gini": FlatScore(lambda d: gini(d.student_TV)),
    "logp_ratio": FlatScore(lambda d: token_logp(d.student_TV, d.tokens_T) - token_logp(d.base_TV, d.tokens_T)),
}


def token_scores(student_TV: Tensor, base_TV: Tensor, tokens_T: Tensor, names: Sequence[str], vocab: int) -> Tensor:
    """Every named score at every position, float32 (T, len(names)), from the two models' logits.

    Both distributions are taken over the first ``vocab`` ids, the base's own vocabulary, and renormalised there: rows
    added for the student's extra tokens are none of the base's. A position hangs on no other one, so a CPU takes as
    many at a time as its cache holds.
    """
    rows = max(CACHED_FLOATS // vocab, 1) if student_TV.device.type == "cpu" else max(len(tokens_T), 1)
    parts = (t.split(rows) for t in (student_TV[:, :vocab], base_TV[:, :vocab], tokens_T))
    return torch.cat([_token_scores(p, q, tokens, names) for p, q, tokens in zip(*parts, strict=True)])


def _token_scores(student_TV: Tensor, base_TV: Tensor, tokens_T: Tensor, names: Sequence[str]) -> Tensor:
    both = Distributions(student_TV.float().log_softmax(-1), base_TV.float().log_softmax(-1), tokens_T)
    return torch.stack([FLAT_SCORES[name].per_token(both) for name in names], dim=-1)


def response_scores(values_TS: Tensor, names: Sequence[str]) -> dict[str, float]:
    """One float a named score from the values of one response's tokens, shape (T, len(names))."""
    return {name: FLAT_SCORES[name].reduce(values_TS[:, i]) for i, name in enumerate(names)}
