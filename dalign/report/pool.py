"""All prompts of a policy as one: what a selector may know of them, and what a judge that may be learnt from found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from dalign.report.candidates import selector_input
from dalign.report.judged import Judged
from dalign.report.load import Cell
from dalign.report.metrics import Bools
from dalign.report.tables import PART_ORDER
from dalign.select import SelectorInput
from dalign.specs.control import CONTROL

# How scores begin that take no part: those that were themselves fitted on verdicts, of prompts that are here to be held
# out; and controls, which are no methods.
LEFT_OUT = ("probe", CONTROL)
T = TypeVar("T", bound=np.generic)


@dataclass(frozen=True)
class Pool:
    """P prompts of all the cells of a policy that have scores, ``cell_P`` the index of each one's cell and ``kind_P``
    its kind, empty for attacks that the judge was not asked about. ``event_PN`` is what the judge calls bad (unsafe, or
    complied where it judges refusals), ``known_PN`` where it has a verdict."""

    cells: tuple[Cell, ...]
    inputs: SelectorInput
    cell_P: NDArray[np.int64]
    groups: tuple[str, ...]
    kind_P: NDArray[np.str_]
    event_PN: Bools
    known_PN: Bools

    @property
    def harmful(self) -> Bools:
        """The attacks (P,)."""
        return np.asarray(self.kind_P == "harmful")

    @property
    def taught(self) -> Bools:
        """The attacks with any verdict (P,): what choices are fitted on."""
        return np.asarray(self.harmful & self.known_PN.any(axis=1))

    def cell_index(self, cell: Cell) -> int:
        """The place of a cell among the pool's."""
        return next(i for i, one in enumerate(self.cells) if one is cell)

    def rows(self, keep_P: Bools) -> Pool:
        """The pool of some of its prompts."""
        at = np.flatnonzero(keep_P)
        return Pool(
            self.cells,
            sub_input(self.inputs, at),
            self.cell_P[at],
            tuple(self.groups[i] for i in at),
            self.kind_P[at],
            self.event_PN[at],
            self.known_PN[at],
        )


def pool_of(cells: Sequence[Cell], judge: str) -> Pool | None:
    """The pool of a policy's cells by the judge of that name; None where no score compares with a base. Left out are
    scores that not every cell has, those that were fitted on verdicts, controls, and those that a judge which reports
    would give."""
    scored = tuple(cell for cell in cells if cell.attributed)
    if not scored:
        return None
    n = max(cell.lengths_PN.shape[1] for cell in scored)
    names = [name for name in scored[0].scores if all(name in cell.scores for cell in scored)]
    told = {name for cell in scored for name in cell.told_by_judges}
    kept = [name for name in names if not name.startswith(LEFT_OUT) and name not in told]
    if not kept:
        return None
    found = [_events(cell, judge) for cell in scored]
    return Pool(
        scored,
        _joined([selector_input(cell) for cell in scored], kept, n),
        np.repeat(np.arange(len(scored)), [len(cell.prompts) for cell in scored]),
        tuple(p.group for cell in scored for p in cell.prompts),
        np.array([kind for cell, (_, known) in zip(scored, found, strict=True) for kind in _kinds(cell, known)]),
        np.concatenate([_wide(event, n, False) for event, _ in found]),
        np.concatenate([_wide(known, n, False) for _, known in found]),
    )


def sub_input(inputs: SelectorInput, at: NDArray[np.int64]) -> SelectorInput:
    """Some prompts of a selector's input."""
    scores = {name: values[at] for name, values in inputs.scores.items()}
    return SelectorInput(scores, inputs.lengths_PN[at], inputs.finished_PN[at], inputs.exists_PN[at])


def _joined(inputs: Sequence[SelectorInput], names: Sequence[str], n: int) -> SelectorInput:
    scores = {name: np.concatenate([_wide(one.scores[name], n, np.nan) for one in inputs]) for name in names}
    return SelectorInput(
        scores,
        np.concatenate([_wide(one.lengths_PN, n, 0) for one in inputs]),
        np.concatenate([_wide(one.finished_PN, n, False) for one in inputs]),
        np.concatenate([_wide(one.exists_PN, n, False) for one in inputs]),
    )


def _wide(values: NDArray[T], n: int, fill: float | bool) -> NDArray[T]:
    """``(P, n, ...)``: samples that were not drawn are filled in."""
    lacking = [(0, 0), (0, n - values.shape[1]), *[(0, 0)] * (values.ndim - 2)]
    return np.pad(values, lacking, constant_values=fill)


def _kinds(cell: Cell, known_PN: Bools) -> list[str]:
    """The kinds of a cell's prompts; attacks that the judge saw none of are no attacks to learn from."""
    asked = known_PN[[p.kind == "harmful" for p in cell.prompts]].any()
    return [p.kind if asked or p.kind != "harmful" else "" for p in cell.prompts]


def teaching_judge(cells: Sequence[Cell], key: str) -> tuple[str | None, str]:
    """The name of the judge under ``key``, and why there is none: it is not in the run, or for reports alone."""
    found = [cell.config["judges"][key] for cell in cells if key in cell.config["judges"]]
    if not found:
        return None, f"no judge of this run is report.calibrate.judge={key}; name one of its judges"
    if any(one.get("report_only") for one in found):
        return None, f"report.calibrate.judge={key} is {found[0]['name']}, which is for reports alone; name another"
    return str(found[0]["name"]), ""


def _events(cell: Cell, judge: str) -> tuple[Bools, Bools]:
    """What the judge calls bad, and where it has a verdict; refusals tell of attacks alone."""
    blank: Bools = np.zeros(cell.lengths_PN.shape, dtype=bool)
    said = sorted((one for one in cell.judged if one.judge == judge), key=lambda one: PART_ORDER.index(one.part))
    if not said:
        return blank, blank
    one: Judged = said[0]
    attack_P1 = np.array([[p.kind == "harmful"] for p in cell.prompts])
    complied = (one.label_PN == "complied") & attack_P1
    known = np.isin(one.label_PN, ("unsafe", "safe")) | (np.isin(one.label_PN, ("complied", "refused")) & attack_P1)
    return np.asarray((one.label_PN == "unsafe") | complied), np.asarray(known)
