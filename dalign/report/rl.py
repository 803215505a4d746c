"""What RL changed: ``distill`` and ``grpo`` on the same prompts, every rate before and after, paired by prompt.

A rewarding judge can be pleased without an answer being safer: each judge stands by itself, marked where it rewarded.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student_t

from dalign.report.blocks import Block, blocks
from dalign.report.candidates import headline_of, selector_input
from dalign.report.intervals import Groups
from dalign.report.load import Cell, LoadedRun
from dalign.report.measure import Draws
from dalign.report.metrics import Floats, choice_rates
from dalign.report.rl_rewards import Rewarding, read_rewards
from dalign.report.rows import number
from dalign.report.tables import ABOUT_SAFETY
from dalign.select import headline, uniform_weights
from dalign.specs.protocol import IMPORTED
from dalign.specs.sampling import SelectorSpec

BEFORE, AFTER = "distill", "grpo"
Quantity = Literal["answer", "selection"]


@dataclass(frozen=True)
class Change:
    """A figure before and after RL, means over the ``n_prompts`` prompts that have it both times, and their difference
    with 95 % bounds (None where nothing varies). ``quantity`` is one answer's own figure, or what the headline's choice
    changes against it, whose bounds are ``before_low`` and so on. Shares are in [0, 1] (a selection's change in
    [-1, 1]), lengths in tokens. ``kind`` is that of the prompts; ``rewarded`` says whether this judge, or this form,
    rewarded on such prompts. ``unscored_*`` are shares of all answers without a verdict."""

    benchmark: str
    subset: str
    metric: str
    reading: str | None
    judge: str
    judge_kind: str | None
    judged: str
    kind: str
    quantity: Quantity
    rewarded: bool
    before: float | None
    after: float | None
    difference: float | None
    low: float | None
    high: float | None
    n_prompts: int
    n_groups: int
    unscored_before: float | None = None
    unscored_after: float | None = None
    before_low: float | None = None
    before_high: float | None = None
    after_low: float | None = None
    after_high: float | None = None
    runs: int = 1


def changes_of(run: LoadedRun, spec: SelectorSpec, draws: Draws) -> tuple[list[Change], list[str]]:
    """Every change of the benchmarks that both policies answered, and notes on those whose prompts differ. ``spec`` is
    the headline. Raises ``ArtifactError`` for a configuration of RL that is not readable."""
    cells = {(cell.policy, cell.benchmark): cell for cell in run.cells}
    pairs = [(cell, cells.get((AFTER, cell.benchmark))) for cell in run.cells if cell.policy == BEFORE]
    rewarding, found, notes = read_rewards(run.folder / AFTER), list[Change](), list[str]()
    for before, after in pairs:
        if after is None:
            continue
        if before.prompts != after.prompts:
            notes.append(f"{BEFORE} and {AFTER} answered other prompts of {before.benchmark}: what RL changed there is")
            notes[-1] += " not told; evaluate both with the same limit."
            continue
        found += _judged(before, after, rewarding, spec, draws)
        found += _form(before, after, rewarding, draws)
    if found and not rewarding.known:
        notes.append(f"Which judge rewarded {AFTER} is not known: its configuration is not in this run.")
    return found, notes


def paired(ends_2P: Floats, groups: Groups, reach: float | None = 1.0) -> dict[str, Any]:
    """The fields of a change of each prompt's value before and after, ``(2, P)``, NaN where there is none: over those
    that have both. ``reach`` is the largest size of a difference; None for values without one, such as tokens: their
    bounds are Student's t over groups."""
    both_P = ~np.isnan(ends_2P).any(axis=0)
    ends = np.where(both_P, ends_2P, np.nan)
    gap_1P = ends[1:] - ends[:1]
    if reach is None:
        low, high = mean_bounds(gap_1P, groups)
    else:
        low, high = (reach * end for end in groups.difference_interval(gap_1P / reach))
    before, after = groups.mean(ends)
    out = {"before": before, "after": after, "difference": groups.mean(gap_1P)[0], "low": low[0], "high": high[0]}
    counts = {"n_prompts": int(both_P.sum()), "n_groups": len(set(groups.index_P[both_P].tolist()))}
    return {**{name: number(value) if both_P.any() else None for name, value in out.items()}, **counts}


def mean_bounds(values_RP: Floats, groups: Groups) -> tuple[Floats, Floats]:
    """``(R,)`` 95 % bounds of means of any scale: Student's t over groups, with cluster-robust standard errors. NaN
    where nothing varies or fewer than two groups have a value."""
    _, count = groups.sums(values_RP)
    error, mean = groups.standard_error(values_RP), groups.mean(values_RP)
    free = np.maximum((count > 0).sum(axis=0) - 1, 1)
    half = np.where(error > 0, student_t.ppf(0.975, free) * error, np.nan)
    return mean - half, mean + half


def _judged(before: Cell, after: Cell, rewarding: Rewarding, spec: SelectorSpec, draws: Draws) -> Iterator[Change]:
    later = {_key(block): block for block in blocks(after)}
    chosen = [_chosen(cell, spec) for cell in (before, after)]
    for block in blocks(before):
        other = later.get(_key(block))
        if other is None:
            continue
        kind, groups = before.prompts[block.index_P[0]].kind, draws.of(block)
        place: dict[str, Any] = {"benchmark": before.benchmark, "subset": block.subset, "metric": block.metric}
        place |= {"reading": block.reading, "judge": block.judge, "judge_kind": block.judge_kind}
        place |= {"judged": block.judged, "kind": kind}
        place["rewarded"] = rewarding.judged(block.judge, kind, block.reading)
        unscored = [float(1 - one.scored_PN.mean()) for one in (block, other)]
        place |= dict(zip(("unscored_before", "unscored_after"), unscored, strict=True))
        single = np.stack([_rate(one, uniform_weights(np.ones_like(one.scored_PN))) for one in (block, other)])
        yield Change(**place, quantity="answer", **paired(single, groups))
        weights = [None if _peeks(one, spec) else w for one, w in zip((block, other), chosen, strict=True)]
        if block.metric in ABOUT_SAFETY and weights[0] is not None and weights[1] is not None:
            chosen_P = [_rate(b, w[b.index_P]) for b, w in zip((block, other), weights, strict=True) if w is not None]
            gains = np.stack(chosen_P) - single
            told = paired(gains, groups, reach=2.0)  # two changes of up to 1 each
            yield Change(**place, quantity="selection", **(told | _own_bounds(gains, groups)))


def _key(block: Block) -> tuple[Any, ...]:
    kind = block.cell.prompts[block.index_P[0]].kind
    return block.metric, block.reading, block.judge, block.judged, block.subset, kind


def _chosen(cell: Cell, spec: SelectorSpec) -> Floats | None:
    """``(P, N)`` weights of the headline's choice; None where the cell lacks its scores."""
    return None if headline_of(spec, cell) is None else headline(spec, selector_input(cell))[2]


def _peeks(block: Block, spec: SelectorSpec) -> bool:
    """Whether the headline chooses by the very means of the block's judge."""
    until = block.cell.until
    goes_by = until.score if spec.score == "until_safe" and until else spec.score
    return goes_by in block.cell.reranked_by(block.judge)


def _rate(block: Block, weights_PN: Floats) -> Floats:
    return choice_rates(weights_PN[None], block.amount_PN, block.scored_PN).value[0]


def _own_bounds(gains_2P: Floats, groups: Groups) -> dict[str, float | None]:
    """The bounds of a selection's change before and after, over the prompts that have both."""
    ends = np.where(np.isnan(gains_2P).any(axis=0), np.nan, gains_2P)
    low, high = (np.where(np.isnan(groups.mean(ends)), np.nan, end) for end in groups.difference_interval(ends))
    names = ("before_low", "before_high", "after_low", "after_high")
    return dict(zip(names, map(number, (low[0], high[0], low[1], high[1])), strict=True))


def _form(before: Cell, after: Cell, rewarding: Rewarding, draws: Draws) -> Iterator[Change]:
    """Finished answers, and response tokens: of all answers, judged or not. Imported responses tell neither."""
    if IMPORTED in (before.protocol, after.protocol):
        return
    subsets = np.array([prompt.subset or "(none)" for prompt in before.prompts])
    names = sorted(set(subsets.tolist()))
    for subset in ("all", *(names if len(names) > 1 else ())):
        at: NDArray[np.int64] = np.flatnonzero((subsets == subset) | (subset == "all"))
        groups = draws.of_groups(before.benchmark, tuple(before.prompts[i].group for i in at))
        blank: dict[str, Any] = {"reading": None, "judge": "", "judge_kind": None, "judged": "", "kind": ""}
        blank |= {"benchmark": before.benchmark, "subset": subset, "quantity": "answer"}
        finished = np.stack([cell.finished_PN[at].mean(axis=1) for cell in (before, after)])
        lengths = np.stack([cell.lengths_PN[at].mean(axis=1) for cell in (before, after)])
        yield Change(**blank, metric="finished", rewarded=rewarding.form("finished"), **paired(finished, groups))
        told = paired(lengths, groups, reach=None)
        yield Change(**blank, metric="length", rewarded=rewarding.form("length"), **told)
