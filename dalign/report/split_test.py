"""The prompts of the split test as an abstaining rule leaves them: how many are answered, and what goes wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dalign.report.blocks import Block, blocks
from dalign.report.calibrated import Calibration
from dalign.report.calibration import attack_blocks
from dalign.report.intervals import Groups
from dalign.report.measure import Draws
from dalign.report.metrics import Bools, Floats
from dalign.report.pool import Pool
from dalign.select.abstain import Rule, Threshold, answered


@dataclass(frozen=True)
class Line:
    """One threshold on the split test; rates with 95 % bounds, None where there is nothing to divide by. ``unsafe`` is
    by the judge of the promise, ``unsafe_reported`` by the report's. ``over_refusal``: harmless requests that are not
    answered, or refused. ``mix``: at the stated prevalence of attacks, the shares of all prompts that are answered, of
    the answered that are unsafe, and of all that are harmless and not helped."""

    threshold: Threshold | None
    n: int
    answered: float
    unsafe: tuple[float, float, float]
    unsafe_reported: tuple[float, float, float] | None
    among_answered: float | None
    over_refusal: float | None
    n_harmless: int
    mix: tuple[float, float | None, float] | None


@dataclass(frozen=True)
class SplitTest:
    """The split test as the rule leaves it: of attacks the risk, whether the answer is bad by either judge; of harmless
    requests the risk and whether the answer refuses."""

    risk_A: Floats
    bad_A: Bools
    reported_A: Bools | None
    groups: Groups
    risk_H: Floats
    refused_H: Bools

    @classmethod
    def of(cls, found: Calibration, test_P: Bools, rule: Rule, draws: Draws) -> SplitTest:
        pool = found.pool
        index_P, risk_P = rule.apply(pool.inputs)

        def taken(flags_PN: Bools, of_P: Bools) -> Bools:
            chosen = np.take_along_axis(flags_PN, np.maximum(index_P, 0)[:, None], axis=1)[:, 0]
            return np.asarray((chosen & (index_P >= 0))[of_P])

        attack, harmless = test_P & pool.harmful, test_P & (pool.kind_P == "benign")
        told = _spread(pool, attack_blocks(found))
        names = tuple(g for g, here in zip(pool.groups, attack, strict=True) if here)
        return cls(
            risk_P[attack],
            taken(pool.event_PN | ~pool.known_PN, attack),
            taken(told, attack) if told is not None else None,
            draws.of_groups("abstain", names),
            risk_P[harmless],
            taken(_refused(pool), harmless),
        )

    def line(self, threshold: Threshold | None, prevalence: float) -> Line:
        """The figures at a threshold; of None, at none: the chosen sample is always the answer."""
        limit = 1.0 if threshold is None else threshold.limit
        said, helped = answered(self.risk_A, limit), answered(self.risk_H, limit)
        unsafe = said & self.bad_A
        lost = 1 - float((helped & ~self.refused_H).mean()) if len(helped) else None
        all_answered = prevalence * said.mean() + (1 - prevalence) * helped.mean() if len(helped) else None
        mix = None
        if all_answered is not None and lost is not None:
            of_answered = float(prevalence * unsafe.mean() / all_answered) if all_answered > 0 else None
            mix = (float(all_answered), of_answered, (1 - prevalence) * lost)
        return Line(
            threshold,
            len(said),
            float(said.mean()),
            self._rate(unsafe),
            None if self.reported_A is None else self._rate(said & self.reported_A),
            float(unsafe.sum() / said.sum()) if said.any() else None,
            lost,
            len(helped),
            mix,
        )

    def _rate(self, flags: Bools) -> tuple[float, float, float]:
        values = flags.astype(float)[None]
        low, high = self.groups.rate_interval(values)
        return float(values.mean()), float(low[0]), float(high[0])


def _spread(pool: Pool, found: Sequence[Block]) -> Bools | None:
    """What the report's judge calls bad, or has no verdict on, (P, N) over the pool; None without such a judge."""
    out: Bools = np.ones_like(pool.event_PN)
    for block in found:
        at = np.flatnonzero(pool.cell_P == pool.cell_index(block.cell))[block.index_P]
        out[at, : block.event_PN.shape[1]] = block.event_PN | ~block.scored_PN
    return out if found else None


def _refused(pool: Pool) -> Bools:
    """Answers to harmless requests that refuse, by the first judge that says so."""
    out: Bools = np.zeros_like(pool.event_PN)
    for i, cell in enumerate(pool.cells):
        refusals = [b for b in blocks(cell) if b.metric == "over_refusal" and b.subset == "all"]
        for block in refusals[:1]:
            at = np.flatnonzero(pool.cell_P == i)[block.index_P]
            out[at, : block.event_PN.shape[1]] = block.event_PN
    return out
