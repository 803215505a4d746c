"""``dalign report``: runs' reports made again, each on screen, or all of them side by side as tables in a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dalign.report import gather, print_summary, write_report
from dalign.specs.run import RunSpec


def main(spec: RunSpec, folders: Sequence[Path], *, with_paper: bool, pooled: bool, out: Path | None) -> int:
    """Reports the runs in ``folders``; with ``out`` they stand side by side there, beside the paper's published rows
    where these are asked for, or, ``pooled``, as one experiment. Returns the exit code."""
    reports = (write_report(f, headline=spec.selector, seed=spec.seed, asked=spec.report) for f in folders)
    if out is None:
        for paths in reports:
            print_summary(paths.report, paths.index_html)
        return 0
    if pooled:
        gather.print_gathered(gather.write_pooled([paths.report for paths in reports], out), out)
        return 0
    runs = [gather.facts_of(paths.report) for paths in reports]
    published = gather.read_published() if with_paper else []
    gather.print_gathered(gather.write_gathered(runs, out, published=published, seed=spec.seed), out)
    return 0
