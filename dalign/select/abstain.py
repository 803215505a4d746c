"""Answers with the chosen sample if and only if its risk is at most lambda: a frozen object with its provenance.

What it promises holds only if the choice of a sample and its risk know nothing of the prompts that lambda is set on: it
carries hashes of the groups behind each of its parts, and refuses to be made from ones that overlap.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dalign.errors import ArtifactError, DataError
from dalign.files import read_json, write_json
from dalign.records import digest
from dalign.select.calibrate import Place
from dalign.select.combine import Combination
from dalign.select.conformal import Procedure, learn_then_test, risk_control
from dalign.select.inputs import SelectorInput
from dalign.select.rank import Bools, Floats
from dalign.select.risk import Risk

SCHEMA = 1
Promise = Literal["of_all", "of_answered"]


def group_hashes(groups: Iterable[str]) -> frozenset[str]:
    """What an object keeps of the groups that it was fitted on: enough to recognise them, no text."""
    return frozenset(digest("group", name) for name in groups)


@dataclass(frozen=True)
class Rule:
    """Which sample is answered with, and how risky that is. ``fitted_on``: hashes of all groups whose events took part
    in it, in the weights as well as in the choice of a score or a layer; empty for what was fixed beforehand."""

    chooser: Combination | Place
    risk: Risk
    fitted_on: frozenset[str]
    require_finished: bool = True

    def apply(self, inputs: SelectorInput) -> tuple[NDArray[np.int64], Floats]:
        """Of each prompt the chosen sample's index and its risk; -1 and NaN where nothing can be chosen. Of equals the
        first is taken: one answer is given."""
        eligible_PN = inputs.eligible(self.require_finished)
        chooser = self.chooser
        weights_PN = (chooser.choose if isinstance(chooser, Combination) else chooser.weights)(inputs, eligible_PN)
        index_P = np.where(weights_PN.sum(axis=1) > 0, weights_PN.argmax(axis=1), -1)
        risk_PN = self.risk.read(inputs, eligible_PN)
        risk_P = np.take_along_axis(risk_PN, np.maximum(index_P, 0)[:, None], axis=1)[:, 0]
        return index_P, np.where(index_P < 0, np.nan, risk_P)


@dataclass(frozen=True)
class Threshold:
    """``limit`` is lambda; None answers nothing. ``of_all``: the expected share of bad answers among all prompts is at
    most ``alpha``. ``of_answered``: with probability 1 - ``delta``, among the groups that are answered at all."""

    promise: Promise
    alpha: float
    limit: float | None
    delta: float | None = None


@dataclass(frozen=True)
class Abstainer:
    """A rule and its thresholds, set on groups that are none of the rule's."""

    rule: Rule
    thresholds: tuple[Threshold, ...]
    set_on: frozenset[str]

    def answer(self, inputs: SelectorInput, threshold: Threshold) -> NDArray[np.int64]:
        """The sample that each prompt is answered with, -1 where it is not answered."""
        index_P, risk_P = self.rule.apply(inputs)
        return np.where(answered(risk_P, threshold.limit), index_P, -1)

    def save(self, path: Path) -> None:
        """Writes JSON, all or nothing."""
        write_json(path, {"schema": SCHEMA, **_plain(asdict(self)), "chooser": type(self.rule.chooser).__name__})

    @classmethod
    def load(cls, path: Path) -> Abstainer:
        """Reads what ``save`` wrote. Raises ``ArtifactError`` for another file, ``DataError`` if its parts overlap."""
        try:
            return _read(read_json(path))
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError(f"{path}: not an abstainer of schema {SCHEMA} ({error}); make it again") from error


def answered(risk_P: Floats, limit: float | None) -> Bools:
    """Which prompts are answered at a limit."""
    return np.zeros(len(risk_P), dtype=bool) if limit is None else np.asarray(risk_P <= limit)


def set_thresholds(
    rule: Rule,
    inputs: SelectorInput,
    bad_PN: Bools,
    groups: Sequence[str],
    alphas: Sequence[float],
    *,
    delta: float,
    grid: Sequence[float],
    procedure: Procedure = "bonferroni",
) -> Abstainer:
    """Lambda for each alpha and promise, from prompts whose groups took no part in ``rule``.

    ``bad_PN``: the samples that would be bad answers, those without a finding included. ``grid``: the limits to test,
    known from elsewhere. Raises ``DataError`` where a group, or the choice of a layer, comes from these very prompts.
    """
    set_on = group_hashes(groups)
    refuse_overlap(rule.fitted_on, set_on)
    index_P, risk_P = rule.apply(inputs)
    bad_P = np.take_along_axis(bad_PN, np.maximum(index_P, 0)[:, None], axis=1)[:, 0] & (index_P >= 0)
    found = []
    for alpha in alphas:
        found.append(Threshold("of_all", alpha, risk_control(risk_P, bad_P, groups, alpha)))
        tested = learn_then_test(risk_P, bad_P, groups, alpha, delta=delta, grid=grid, procedure=procedure)
        found.append(Threshold("of_answered", alpha, tested, delta))
    return Abstainer(rule, tuple(found), set_on)


def refuse_overlap(fitted_on: frozenset[str], set_on: frozenset[str]) -> None:
    """Raises ``DataError`` where groups took part in both: the promise would be broken, by nearly twice in simulation
    (``campaign/abstain.py``)."""
    if both := fitted_on & set_on:
        raise DataError(
            f"abstain: {len(both)} of {len(set_on)} groups of the threshold split also took part in fitting the rule "
            "or choosing its layer, so that what it promises would not hold; choose and fit on the split `fit` alone"
        )


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, frozenset):
        return sorted(value)
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value


def _read(data: Mapping[str, Any]) -> Abstainer:
    if data["schema"] != SCHEMA:
        raise ValueError(f"schema {data['schema']!r}")
    rule = data["rule"]
    found = Abstainer(
        Rule(
            _combination(rule["chooser"]) if data["chooser"] == "Combination" else Place(**rule["chooser"]),
            _risk(rule["risk"]),
            frozenset(rule["fitted_on"]),
            bool(rule["require_finished"]),
        ),
        tuple(Threshold(**one) for one in data["thresholds"]),
        frozenset(data["set_on"]),
    )
    refuse_overlap(found.rule.fitted_on, found.set_on)
    return found


def _risk(data: Mapping[str, Any]) -> Risk:
    mean, scale, weights = (tuple(data[key]) for key in ("mean", "scale", "weights"))
    return Risk(_places(data["features"]), mean, scale, weights, float(data["bias"]))


def _combination(data: Mapping[str, Any]) -> Combination:
    return Combination(_places(data["features"]), tuple(data["scale"]), tuple(data["weights"]))


def _places(found: Sequence[Mapping[str, Any]]) -> tuple[Place, ...]:
    return tuple(Place(**one) for one in found)
