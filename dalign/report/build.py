"""A run's report in memory: every block of every finished cell measured, adjusted together, and put in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from dalign.errors import ArtifactError
from dalign.report.abstaining import abstained
from dalign.report.at_k import curves, first_sections, monte_carlo_note, rows_at_k
from dalign.report.blocks import blocks, unmeasured
from dalign.report.calibrated import calibrations, extended
from dalign.report.calibration import calibrated
from dalign.report.candidates import candidates, headline_of, with_band
from dalign.report.cost import priced
from dalign.report.load import Cell, LoadedRun, load_run
from dalign.report.measure import Draws, measure
from dalign.report.rl import changes_of
from dalign.report.rows import Row, Worth, finish
from dalign.report.tables import Headline, Report, primary_claims
from dalign.report.variants import variants
from dalign.report.worth import worths
from dalign.specs.run import ReportSpec
from dalign.specs.sampling import SelectorSpec

EVERYTHING = ReportSpec()
WORDS = {
    ("similarity", "argmin"): "least similar to the base model",
    ("similarity", "argmax"): "most similar to the base model",
    ("kl", "argmax"): "with the largest KL divergence from the base model",
    ("probe", "argmin"): "that the probe finds least unsafe",
}


def build_report(
    run_folder: Path,
    *,
    headline: SelectorSpec,
    seed: int,
    asked: ReportSpec = EVERYTHING,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """The report of a run's finished evaluations. Raises ``ArtifactError`` where there is nothing to report. ``asked``
    says what is fitted on the verdicts of other prompts."""
    run = with_band(load_run(run_folder), headline)
    draws = Draws(seed)
    rows: list[Row] = []
    reasons: Counter[str] = Counter()
    fitted, why_not = calibrations(run.cells, headline, asked.calibrate, seed)
    notes, found = [*run.notes, *why_not], list[Worth]()
    for done, cell in enumerate(run.cells, 1):
        chosen, version = extended(candidates(cell, headline), fitted.get(cell.policy), cell), _world_version(cell)
        for block in blocks(cell):
            rows += priced(measure(block, chosen, draws, version), block)
            if block.subset == "all" and block.reading in (None, "strict"):
                reasons.update({f"{block.judge}: {reason}": n for reason, n in block.reasons.items()})
        others, told = variants(cell, run.prefilled)
        found += worths(cell, others, headline, draws, version)
        notes += [*unmeasured(cell), *told]
        if progress:
            progress(done, len(run.cells))
    if not rows:
        raise ArtifactError(f"{run_folder / 'evaluate'}: no verdicts that a metric counts; is a judge configured?")
    words = _headline(headline, run)
    report = Report(run, tuple(rows), words, dict(reasons.most_common()), (), seed, tuple(found))
    report = replace(report, rows=tuple(finish(rows, primary_claims(report))))
    below = _below_n(report, headline, draws)
    chosen_on = [calibrated(one, draws, seed) for one in fitted.values()]
    silent = [abstained(one, asked.abstain, draws, seed) for one in fitted.values()]
    changed, other_prompts = changes_of(run, headline, draws)
    notes += other_prompts
    notes += [monte_carlo_note(below) or "", *(f"No abstention for {one.why_not}." for one in silent if one.why_not)]
    return replace(
        report,
        at_k=tuple(below),
        notes=tuple(dict.fromkeys(filter(None, notes))),
        calibrated=tuple(chosen_on),
        abstained=tuple(silent),
        changes=tuple(changed),
    )


def _below_n(report: Report, headline: SelectorSpec, draws: Draws) -> list[Row]:
    """Best of every k below N, of the policies with scores, by the first judge of each metric."""
    shown, out = first_sections(report), list[Row]()
    for cell in (cell for cell in report.run.cells if cell.attributed):
        found = curves(cell, headline, report.seed)
        for block in blocks(cell):
            if any(section.covers(block) for section in shown):
                out += priced(rows_at_k(block, found, draws, _world_version(cell)), block)
    return out


def _headline(spec: SelectorSpec, run: LoadedRun) -> Headline:
    found = {place for cell in run.cells if (place := headline_of(spec, cell))}
    if len(found) > 1:
        raise ArtifactError(f"{run.folder}: policies with models of different depth in one run; give selector.layer=")
    name, layer = found.pop() if found else (spec.score, None)
    words = WORDS.get((spec.score, spec.direction), f"by {name.replace('_', ' ')}")
    at = "" if layer is None else f" (layer {layer})"
    n = max(cell.lengths_PN.shape[1] for cell in run.cells)
    return Headline(name, layer, f"the one of {n} answers {words}{at}")


def _world_version(cell: Cell) -> int | None:
    """The version of the embedded world, where the benchmark is of it."""
    benchmark = cell.config.get("benchmark", {}).get(cell.benchmark, {})
    if benchmark.get("format") != "toy":
        return None
    recorded = cell.versions.get("world_version")
    if recorded is not None:
        return int(recorded)
    from dalign.toy.world import WORLD_VERSION

    return WORLD_VERSION
