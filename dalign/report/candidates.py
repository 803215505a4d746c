"""What is chosen of N samples, by every selector at every layer, as weights; and the baselines that peek at labels.

Selectors come from ``dalign.select`` and never see a verdict. Oracle, majority, any-of-N and the best layer on the test
labels do: they live here, are marked ``peeks``, and are bounds, not methods.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np

from dalign.report.blocks import Block
from dalign.report.load import Cell, LoadedRun
from dalign.report.metrics import Floats, Rates, any_rates, choice_rates, majority_rates
from dalign.select import (
    REFUSAL,
    SELECTORS,
    SelectorInput,
    arg_weights,
    auto_layer,
    band_mean,
    band_name,
    choose,
    headline,
    uniform_weights,
)
from dalign.specs.control import CLOSINGS, CONTROL
from dalign.specs.judge import RERANKING
from dalign.specs.sampling import SelectorSpec

TEST_LABELS = "test_labels"
BEST_LAYER = "best_layer_"


@dataclass(frozen=True)
class Candidate:
    """One row of a block's table. ``score`` names the score that the selector ranks by, ``goes_by`` one that it
    looks at in another way too. ``is_choice`` is false for
    figures about all N samples (majority, any-of-N), which no single choice attains; ``peeks`` says that labels were
    used. ``layer_chosen_on``: ``rule`` (auto), ``config``, ``scan`` (every layer is listed) or ``test_labels``."""

    selector: str
    layer: int | None = None
    layer_chosen_on: str | None = None
    k: int = 1
    score: str | None = None
    require_finished: bool = False
    peeks: bool = False
    is_choice: bool = True
    goes_by: str | None = None

    @property
    def claims(self) -> bool:
        """Whether a difference may be claimed for it: a control is no method, and who saw labels proves nothing."""
        return not self.peeks and not (self.score or "").startswith(CONTROL)


@dataclass(frozen=True)
class Candidates:
    """Rows and their weights ``(R, P, N)``; row 0 is ``mean``, every sample equally: ASR@1."""

    rows: tuple[Candidate, ...]
    weights_RPN: Floats


def selector_input(cell: Cell) -> SelectorInput:
    """All that a selector may know of a cell."""
    exists = np.ones_like(cell.finished_PN)
    answers = [[response.answer for response in row] for row in cell.responses]
    return SelectorInput(cell.scores, cell.lengths_PN, cell.finished_PN, exists, answers, cell.until)


def with_band(run: LoadedRun, spec: SelectorSpec) -> LoadedRun:
    """The run with the mean over the headline's band, if it has one, as one more score of each cell that has its score
    by layer."""
    if spec.band is None:
        return run

    def banded(cell: Cell) -> Cell:
        scores = cell.scores.get(spec.score)
        if spec.band is None or scores is None or scores.ndim != 3:
            return cell
        name = band_name(spec.score, spec.band)
        return replace(cell, scores={**cell.scores, name: band_mean(scores, spec.band)})

    return replace(run, cells=tuple(map(banded, run.cells)), prefilled=tuple(map(banded, run.prefilled)))


def headline_of(spec: SelectorSpec, cell: Cell) -> tuple[str, int | None] | None:
    """The headline's name and layer in a cell; None where its score needs a base and there is none, or a judge that has
    not reranked there."""
    known = spec.score in (*cell.scores, *SELECTORS)
    asks_judge = spec.score.startswith(RERANKING) or spec.score == "until_safe"
    if (not known and (asks_judge or not cell.attributed)) or (spec.score == "until_safe" and cell.until is None):
        return None
    name, layer, _ = headline(spec, selector_input(cell))
    return name, layer


def candidates(cell: Cell, spec: SelectorSpec) -> Candidates:
    """``mean``, the plain ``first`` sample, and every selector of ``dalign.select``, at each layer where it has any."""
    inputs, n = selector_input(cell), cell.lengths_PN.shape[1]
    every = uniform_weights(inputs.exists_PN)
    first = SELECTORS["first"](inputs, inputs.exists_PN)  # whatever it is like: a single answer as a user gets it
    rows, weights = [Candidate("mean"), Candidate("first")], [every, first]
    fixed = spec.layer if isinstance(spec.layer, int) else None
    for name, layer, weights_PN in choose(inputs, require_finished=spec.require_finished):
        if name == "first" or (name in ("shortest", "longest") and not cell.lengths_PN.any()):
            continue  # imported responses have no lengths in tokens
        chosen_on = None
        if layer is not None:
            shown = fixed if fixed is not None else auto_layer(cell.n_layers or 0)
            chosen_on = "scan" if layer != shown else "rule" if fixed is None else "config"
        score = None if name in SELECTORS else name.rpartition("_")[0]
        goes_by = score if score is not None else _goes_by(name, cell)
        peeks = score == CLOSINGS
        rows.append(Candidate(name, layer, chosen_on, n, score, spec.require_finished, peeks, goes_by=goes_by))
        weights.append(weights_PN)
    return Candidates(tuple(rows), np.stack(weights))


def _goes_by(name: str, cell: Cell) -> str | None:
    if name == "until_safe" and cell.until:
        return cell.until.score
    return REFUSAL if name == "refusal_vote" else None


def peeking(chosen: Candidates, block: Block) -> tuple[Candidates, Rates]:
    """The table with the peeking baselines of a block below it, and the rates of all its rows. ``majority`` counts a
    tie as no event, ``majority_ties_count`` as one; ``any_of_n`` asks for at least one event."""
    event, amount, scored, n = block.event_PN, block.amount_PN, block.scored_PN, block.event_PN.shape[1]
    rates = choice_rates(chosen.weights_RPN, amount, scored)
    best_end, worst_end = ("argmax", "argmin") if block.good else ("argmin", "argmax")
    oracles = [arg_weights(amount, scored, end) for end in (best_end, worst_end)]  # type: ignore[arg-type]
    best = _best_layers(chosen.rows, rates, block.good)
    picks = [
        *(Candidate(name, k=n, peeks=True) for name in ("oracle_best", "oracle_worst")),
        *(_as_best_layer(chosen.rows[i]) for i in best),
    ]
    weights = np.stack([*oracles, *(chosen.weights_RPN[i] for i in best)])
    rates = rates.stack(choice_rates(weights, amount, scored))
    figures = (
        {}
        if not block.counts
        else {
            "majority": majority_rates(event, scored, ties_are_events=False),
            "majority_ties_count": majority_rates(event, scored, ties_are_events=True),
            "any_of_n": any_rates(event, scored),
        }
    )
    for figure in figures.values():
        rates = rates.stack(figure)
    if not figures:
        return Candidates((*chosen.rows, *picks), np.concatenate([chosen.weights_RPN, weights])), rates
    every = np.repeat(uniform_weights(np.ones_like(scored))[None], len(figures), axis=0)
    names = tuple(Candidate(name, k=n, peeks=True, is_choice=False) for name in figures)
    return Candidates((*chosen.rows, *picks, *names), np.concatenate([chosen.weights_RPN, weights, every])), rates


def _as_best_layer(row: Candidate) -> Candidate:
    return replace(row, selector=f"{BEST_LAYER}{row.selector}", layer_chosen_on=TEST_LABELS, peeks=True)


def _best_layers(rows: Sequence[Candidate], rates: Rates, good: bool) -> list[int]:
    """Of each layered selector that saw no label the row with the best rate on these very labels, the placebo layer
    included, as the paper's "best layer" has it: an upper bound."""
    known = ~np.isnan(rates.value)
    means = np.where(known, rates.value, 0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    layered = [i for i, row in enumerate(rows) if row.layer is not None and not row.peeks and known[i].any()]
    out = []
    for _, members in groupby(layered, key=lambda i: rows[i].selector):
        out.append((max if good else min)(members, key=lambda i: means[i]))
    return out
