"""The loop of evaluate.py, callable from Python: policies x benchmarks -> samples, scores, verdicts -> report.

One model is resident at a time: each policy draws and scores all its benchmarks, then the judges follow. Every
step continues what an earlier run left: a killed evaluation is run again, a finished one returns at once.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import TYPE_CHECKING

from rich.console import Console

from dalign import protocols
from dalign.cells import Cell
from dalign.layout import run_folder
from dalign.policies import Policy, load_policy
from dalign.specs.data import BenchmarkSpec
from dalign.specs.judge import AnyJudge, CompositeSpec, SelfJudgeSpec
from dalign.specs.run import RunSpec
from dalign.store import progress_bar

if TYPE_CHECKING:
    from dalign.judge import Judge

console = Console(stderr=True)


def evaluate(spec: RunSpec, *, report: bool = True) -> None:
    """Evaluates every policy of ``spec`` on every benchmark, then writes the report and prints its table."""
    for name in spec.policies:
        evaluate_policy(spec, name)
    if report:
        write_report_of(spec)


def evaluate_policy(spec: RunSpec, name: str) -> None:
    """Draws, scores and judges one policy's cells, and closes them."""
    with open_cells(spec, name) as cells:
        for cell in cells:
            _sample_and_score(cell)
    gc.collect()
    with open_cells(spec, name) as cells:
        _judge(spec, cells)
        _judge_by_protocols(cells)
        for cell in cells:
            protocols.record(cell)
            cell.close()


@contextmanager
def open_cells(spec: RunSpec, name: str) -> Iterator[list[Cell]]:
    """The policy's cells, each locked; the policy's model is loaded once, when the first of them asks for it."""
    loader: Callable[[], Policy] = cache(lambda: load_policy(spec, name))
    with ExitStack() as stack:
        cells = [
            Cell(spec, name, benchmark, loader, prefilled)
            for benchmark in spec.benchmark.values()
            for prefilled in _ways_of_asking(spec, name, benchmark)
        ]
        for cell in cells:
            stack.enter_context(cell.stage)
            cell.check()
        yield cells


def _ways_of_asking(spec: RunSpec, name: str, benchmark: BenchmarkSpec) -> tuple[bool, ...]:
    """Whether with a prefilled answer: not, and then again so where that is asked for and the benchmark has one. The
    teacher is asked with its policies and never prefilled."""
    return (False, True) if spec.protocol.prefill and benchmark.prefill and name != "teacher" else (False,)


def write_report_of(spec: RunSpec) -> None:
    """The report of the run's finished cells, its table on screen."""
    from dalign.report import print_summary, write_report

    with progress_bar("report") as progress:
        paths = write_report(
            run_folder(spec), headline=spec.selector, seed=spec.seed, asked=spec.report, progress=progress
        )
    print_summary(paths.report, paths.index_html)


def _sample_and_score(cell: Cell) -> None:
    label = f"{cell.name} on {cell.path.name}"
    if cell.missing():
        with progress_bar(f"{label}: samples") as progress:
            cell.draw(progress)
        _tell_overlong(cell)
    if cell.unscored():
        with progress_bar(f"{label}: scores") as progress:
            cell.score(progress)
    if protocols.unscored(cell):
        with progress_bar(f"{label}: scores as the released code reads them") as progress:
            protocols.score(cell, progress)


def _judge(spec: RunSpec, cells: Sequence[Cell]) -> None:
    """Loads one judge at a time, if it has something left to judge; then the policy itself, if it judges; composites
    last, over their members' verdicts."""
    wanted: dict[str, AnyJudge] = {}
    for cell in cells:
        wanted |= {key: cell.judges[key] for key, _ in cell.unjudged()}
    for key, one in sorted(wanted.items(), key=lambda item: _turn(item[1])):
        judge_of = _judge_of(spec, one, cells[0])
        for cell in cells:
            if key in {asked for asked, _ in cell.unjudged()}:
                with progress_bar(f"{cell.name} on {cell.benchmark.name}: verdicts of {one.name}") as progress:
                    cell.judge(key, judge_of(cell), progress)
        del judge_of
        gc.collect()


def _judge_by_protocols(cells: Sequence[Cell]) -> None:
    """As ``_judge``, for the judges that the released code's switches put in the place of the configured ones."""
    for switch in protocols.JUDGING:
        wanted = {key: cell for cell in cells for key in protocols.unjudged(cell, switch)}
        for key, first in wanted.items():
            judge = protocols.make(switch, first.judges[key], first)
            for cell in cells:
                if key in protocols.unjudged(cell, switch):
                    label = f"{cell.name} on {cell.benchmark.name}: verdicts of {judge.name}, {switch}"
                    with progress_bar(label) as progress:
                        protocols.judge(cell, switch, key, judge, progress)
            del judge
            gc.collect()


def _turn(judge: AnyJudge) -> int:
    return 2 if isinstance(judge, CompositeSpec) else int(isinstance(judge, SelfJudgeSpec))


def _judge_of(spec: RunSpec, judge: AnyJudge, first: Cell) -> Callable[[Cell], Judge]:
    """The judge for a cell: one loaded for all of them, the policy of all of them, of which ``first`` is one, or a
    composite of what its members have said there."""
    from dalign.judge import make_composite, make_judge

    if isinstance(judge, SelfJudgeSpec):
        from dalign.judge.self_judge import self_judge

        own = self_judge(judge, first.policy().loaded)
        return lambda cell: own
    if isinstance(judge, CompositeSpec):
        names = [spec.judges[key].name for key in judge.of]
        return lambda cell: make_composite(judge, [cell.judge_on_record(name) for name in names])
    made = make_judge(judge, world_seed=spec.world_seed, paths=spec.paths)
    return lambda cell: made


def _tell_overlong(cell: Cell) -> None:
    count = sum(s.finish_reason == "overlong" for s in cell.samples())
    if count:
        name = cell.benchmark.name
        console.print(f"{name}: {count} samples not drawn, their prompts fill the model's context; they are unscored")
