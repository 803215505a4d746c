"""A cell as other protocols measure it: the released code's scores, verdicts and layer in the place of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from dalign.files import read_json, read_tensors
from dalign.layout import PROTOCOLS, PROTOCOLS_ASKED
from dalign.report.judged import Judged, judged_of
from dalign.report.load import Cell
from dalign.report.metrics import Floats
from dalign.report.tensors import load_scores
from dalign.specs.protocol import PREFILLED, RELEASED

TEST_LAYER, READING, JUDGING = "test_layer", "substring", ("bare_judge", "substring")


@dataclass(frozen=True)
class Variant:
    """A cell by another protocol. ``judges`` are those whose verdicts are other ones, None for all of them; ``scored``
    says that the choice among samples is another one; ``test_layer`` that its layer is the best on these labels."""

    protocol: str
    cell: Cell
    judges: frozenset[str] | None = frozenset()
    scored: bool = False
    test_layer: bool = False

    def rejudges(self, judge: str) -> bool:
        """Whether the rate of a single answer, as ``judge`` sees it, is another one."""
        return self.judges is None or judge in self.judges


def variants(cell: Cell, prefilled: tuple[Cell, ...] = ()) -> tuple[list[Variant], list[str]]:
    """The variants of a cell that were asked for (each switch alone, all together, the one of ``prefilled`` with its
    prompts), and notes on files that are of other samples than the cell's."""
    found, notes = _released(cell)
    return [*found, *_prefilled(cell, prefilled)], notes


def _released(cell: Cell) -> tuple[list[Variant], list[str]]:
    folder = cell.folder / PROTOCOLS
    if not (folder / PROTOCOLS_ASKED).exists():
        return [], []
    asked, notes = read_json(folder / PROTOCOLS_ASKED)["asked"], list[str]()
    verdicts = {name: found for name in JUDGING if (found := _verdicts(folder / f"{name}.parquet", cell, notes))}
    out = []
    for name in sorted(asked, key=_reading_order):
        together = name.startswith(RELEASED)
        said = {n: j for n, j in verdicts.items() if together or n == name}
        scores = _scores(folder / f"{name}.safetensors", cell, notes) if name not in (*JUDGING, TEST_LAYER) else None
        if together and (notes or (cell.attributed and not scores)):
            continue  # of some of its parts there is nothing, or only of other samples
        at_test = bool(cell.attributed) and (together or name == TEST_LAYER)
        if said or scores or at_test:
            judges = frozenset(one.judge for found in said.values() for one in found)
            changed = replace(cell, scores={**cell.scores, **(scores or {})}, judged=_instead(cell, said))
            out.append(Variant(name, changed, judges, bool(scores) or at_test, at_test))
    return out, notes


def _prefilled(cell: Cell, others: tuple[Cell, ...]) -> list[Variant]:
    """The cell of the same policy and prompts with prefilled answers, if there is one."""
    ids = [p.id for p in cell.prompts]
    return [
        Variant(PREFILLED, other, judges=None, scored=True)
        for other in others
        if (other.policy, other.benchmark) == (cell.policy, cell.benchmark) and [p.id for p in other.prompts] == ids
    ]


def _reading_order(name: str) -> tuple[int, str]:
    """Judging first, then scores and layer, all together last."""
    known = [*JUDGING, "pad_position", "cut", "bf16_cosine", TEST_LAYER, RELEASED]
    place = next((i for i, start in enumerate(known) if name.startswith(start)), len(known))
    return place, name


def _instead(cell: Cell, said: Mapping[str, tuple[Judged, ...]]) -> tuple[Judged, ...]:
    """The cell's verdicts with those of ``said`` in the place of the same judge's on the same part."""
    new = {(one.judge, one.part): one for found in said.values() for one in found}
    return tuple(new.get((one.judge, one.part), one) for one in cell.judged)


def _verdicts(path: Path, cell: Cell, notes: list[str]) -> tuple[Judged, ...]:
    if not path.exists():
        return ()
    found = judged_of(path, cell.sample_ids_PN)
    whole = tuple(one for one in found if (one.label_PN != "").all())
    if len(whole) < len(found):
        notes.append(_stale(path, cell))
    return whole


def _scores(path: Path, cell: Cell, notes: list[str]) -> dict[str, Floats] | None:
    if not path.exists():
        return None
    ids, n = [p.id for p in cell.prompts], cell.lengths_PN.shape[1]
    facts = read_tensors(path)[1]
    if facts.get("n") != n or sorted(facts.get("prompt_ids", [])) != sorted(ids):
        notes.append(_stale(path, cell))
        return None
    return load_scores(path, ids, n)[0]


def _stale(path: Path, cell: Cell) -> str:
    return (
        f"{path.name} of {cell.policy} on {cell.benchmark} does not cover the evaluation's samples and is left out: "
        "rerun evaluate.py with its protocol."
    )
