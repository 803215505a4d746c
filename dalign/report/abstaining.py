"""What answering only below a risk gives, on prompts that took no part in it: a hard split by group in three.

Fitted on the split ``fit``, the limit set on ``threshold``, told on ``test``. Promised is the unsafe share as the judge
sees it that the limit was set by; the report's own judge stands beside it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dalign.report.calibrated import Calibration
from dalign.report.formats import PlainTable
from dalign.report.measure import Draws
from dalign.report.metrics import Bools
from dalign.report.pool import Pool
from dalign.report.split_test import Line, SplitTest
from dalign.report.tables import percent, with_interval
from dalign.select.abstain import Abstainer, Rule, group_hashes, set_thresholds
from dalign.select.combine import all_features, fit_combination
from dalign.select.conformal import groups_needed
from dalign.select.risk import fit_risk
from dalign.specs.calibrate import AbstainSpec
from dalign.train.folds import group_folds

SPLITS = ("fit", "threshold", "test")
GRID = 10  # limits that Learn-then-Test tries, at quantiles of the risk on the split `fit`
CAVEAT = (
    "Answered if and only if the chosen answer's risk is at most lambda. 'Of all': the expected share of unsafe "
    "answers among all attacks is at most alpha, for groups of prompts exchangeable with those that lambda was set "
    "on, as judged by the judge named there; not promised: among the answered, in a category, under another mix of "
    "attacks. 'Of answered': with the stated confidence, at most alpha of the groups that are answered at all have "
    "an unsafe answer (Learn-then-Test, an exact binomial test a limit). An answer without a verdict counts as unsafe. "
    "All figures are of the split test, which took no part; the first promise holds on average over splits."
)


@dataclass(frozen=True)
class Abstained:
    """The account of a policy: what was frozen, its lines (the first answers always), and why there is none."""

    policy: str
    judge: str
    abstainer: Abstainer | None
    lines: tuple[Line, ...]
    prevalence: float
    n_groups: dict[str, int]
    why_not: str = ""

    def tables(self) -> list[PlainTable]:
        """One table; none where it was not possible."""
        if not self.lines:
            return []
        mix, first = f"at {100 * self.prevalence:g} % attacks: ", self.lines[0]
        head = [*("promise", "alpha", "lambda", "answered"), f"unsafe of all ({self.judge})", "(report's judge)"]
        head += ["unsafe of answered", "harmless not helped"]
        head += [f"{mix}answered", "unsafe of answered", "harmless not helped"]
        groups = ", ".join(f"{name} {n}" for name, n in self.n_groups.items())
        title = f"{self.policy}: answering below a risk; per cent of {first.n} attacks and {first.n_harmless} harmless "
        title += f"requests of the split test (groups: {groups})"
        rows = tuple(_cells(line, self.n_groups["threshold"]) for line in self.lines)
        return [PlainTable(f"abstain_{self.policy}", title, tuple(head), rows, 1)]


@dataclass(frozen=True)
class Frozen:
    """An abstainer and the split of the pool's prompts behind it: 0, 1, 2 as in ``SPLITS``, -1 for those of none."""

    abstainer: Abstainer
    split_P: NDArray[np.int64]
    n_groups: dict[str, int]


def abstained(found: Calibration, spec: AbstainSpec, draws: Draws, seed: int) -> Abstained:
    """Splits a policy's prompts, freezes a rule and its thresholds, and measures them on the split test."""
    silent = Abstained(found.policy, found.judge, None, (), spec.prevalence, {})
    frozen = freeze(found, spec, seed)
    if frozen is None:
        return replace(silent, why_not=f"{found.policy}: one of three splits has no attack, or no unsafe answer to fit")
    measured = SplitTest.of(found, frozen.split_P == 2, frozen.abstainer.rule, draws)
    lines = tuple(measured.line(one, spec.prevalence) for one in (None, *frozen.abstainer.thresholds))
    return replace(silent, abstainer=frozen.abstainer, lines=lines, n_groups=frozen.n_groups)


def freeze(found: Calibration, spec: AbstainSpec, seed: int) -> Frozen | None:
    """Fits a rule on a third of the groups of attacks and harmless requests and sets its thresholds on another; None
    where one of the thirds lacks what it needs."""
    pool = found.pool
    asked = np.isin(pool.kind_P, ("harmful", "benign"))
    attacks = {g for g, here in zip(pool.groups, pool.harmful, strict=True) if here}
    others = {g for g, here in zip(pool.groups, asked, strict=True) if here} - attacks
    if len(attacks) < len(SPLITS):
        return None
    split_of = {**_thirds(attacks, seed), **(_thirds(others, seed) if len(others) >= len(SPLITS) else {})}
    split_P = np.where(asked, [split_of.get(g, SPLITS.index("test")) for g in pool.groups], -1)
    fit, threshold, test = (pool.rows(_members(pool, split_P == i, attacks=i > 0)) for i in range(len(SPLITS)))
    if not fit.event_PN.any() or not threshold.groups or not test.groups:
        return None
    rule, grid = _rule(fit, found, spec)
    bad = threshold.event_PN | ~threshold.known_PN
    abstainer = set_thresholds(rule, threshold.inputs, bad, threshold.groups, spec.alphas, delta=spec.delta, grid=grid)
    counts = {name: len(set(part.groups)) for name, part in zip(SPLITS, (fit, threshold, test), strict=True)}
    return Frozen(abstainer, split_P, counts)


def _thirds(groups: set[str], seed: int) -> dict[str, int]:
    named = sorted(groups)
    return dict(zip(named, group_folds(named, len(SPLITS), seed=seed).tolist(), strict=True))


def _members(pool: Pool, split: Bools, *, attacks: bool) -> Bools:
    """Attacks alone set a threshold; whatever has a verdict is fitted on."""
    return np.asarray(split & (pool.harmful if attacks else pool.known_PN.any(axis=1)))


def _rule(fit: Pool, found: Calibration, spec: AbstainSpec) -> tuple[Rule, list[float]]:
    """The combination and the risk of the split fit, and the limits to test: quantiles of that risk."""
    features, eligible = all_features(fit.inputs), fit.inputs.eligible(found.require_finished)
    chooser = fit_combination(features, fit.inputs, eligible, fit.event_PN, fit.known_PN, l2=found.spec.l2)
    risk = fit_risk(features, fit.inputs, eligible, fit.event_PN, fit.known_PN, l2=spec.l2)
    rule = Rule(chooser, risk, group_hashes(fit.groups), found.require_finished)
    _, risk_P = rule.apply(fit.inputs)
    known = risk_P[~np.isnan(risk_P)]
    return rule, np.quantile(known, np.arange(1, GRID + 1) / GRID).tolist() if len(known) else [1.0]


def _cells(line: Line, n_groups: int) -> tuple[str, ...]:
    one, mix = line.threshold, line.mix or (None, None, None)
    promise, alpha, limit = "none: always answers", "–", "–"
    if one is not None:
        promise = "of all" if one.promise == "of_all" else f"of answered, {100 * (1 - (one.delta or 0)):g} % sure"
        alpha = f"{one.alpha:g}"
        few = one.promise == "of_all" and n_groups < groups_needed(one.alpha)
        short = f"not possible: {n_groups} groups, needs {groups_needed(one.alpha)}" if few else "none: answers nothing"
        limit = short if one.limit is None else f"{one.limit:.3f}"
    reported = line.unsafe_reported
    return (
        promise,
        alpha,
        limit,
        percent(line.answered),
        with_interval(*line.unsafe),
        "–" if reported is None else with_interval(*reported),
        percent(line.among_answered),
        percent(line.over_refusal),
        percent(mix[0]),
        "–" if mix[1] is None else f"{100 * mix[1]:.2f}",
        percent(mix[2]),
    )
