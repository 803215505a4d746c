"""The attack of a job: policy by policy and benchmark by benchmark, then its tables. Called by evaluate.py's worker."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import cache, partial

from rich.console import Console

from dalign.attack.attacker import make_attacker
from dalign.attack.pair import PairCell
from dalign.attack.play import Players
from dalign.attack.rows import rows_of, texts_of
from dalign.attack.screen import publish
from dalign.attack.selector import SelectorCell
from dalign.attack.selector_rows import selector_rows, selector_texts
from dalign.attack.target import targets_of
from dalign.judge import Judge, make_judge
from dalign.layout import ADAPTER_POLICIES, stage_folder
from dalign.policies import load_policy
from dalign.specs.attack import PairSpec, SelectorAttackSpec
from dalign.specs.run import RunSpec
from dalign.store import StageFolder

console = Console(stderr=True)


def run_attack(spec: RunSpec) -> None:
    """Does what ``spec.attack`` says and continues what an earlier run left."""
    if isinstance(spec.attack, PairSpec):
        run_pair(spec, spec.attack)
    elif isinstance(spec.attack, SelectorAttackSpec):
        run_selector(spec, spec.attack)


def run_pair(spec: RunSpec, attack: PairSpec) -> None:
    """PAIR on every policy and benchmark. One policy is resident at a time, beside attacker and judge."""
    attacker = cache(lambda: make_attacker(attack, seed=spec.seed, world_seed=spec.world_seed, paths=spec.paths))
    judge = _judge_of(spec, attack)
    for name in [name for name in spec.policies if targets_of(spec, attack, name)]:
        players = Players(cache(partial(load_policy, spec, name)), attacker, judge)
        cells = [PairCell(spec, attack, name, benchmark) for benchmark in spec.benchmark.values()]
        _run_all([(cell.stage, partial(cell.run, players)) for cell in cells])
        for cell in cells:
            _tell_unreadable(cell)
        del players
        gc.collect()
    folder = stage_folder(spec, "attack", attack.name)
    publish(rows_of(folder, spec.seed), folder, texts_of(folder))


def _tell_unreadable(cell: PairCell) -> None:
    turns = cell.turns()
    if count := sum(not turn.prompt for turn in turns):
        whose = f"{cell.policy} on {cell.benchmark.name}"
        console.print(f"{whose}: {count} of {len(turns)} turns without an attempt, the attacker wrote none")


def run_selector(spec: RunSpec, attack: SelectorAttackSpec) -> None:
    """The attack on the selector, on every policy that has a base and every benchmark that the run has evaluated."""
    judge = _judge_of(spec, attack)
    for name in [name for name in spec.policies if name in ADAPTER_POLICIES]:
        policy = cache(partial(load_policy, spec, name))
        cells = [SelectorCell(spec, attack, name, benchmark, policy, judge) for benchmark in spec.benchmark]
        _run_all([(cell.stage, cell.run) for cell in cells])
    folder = stage_folder(spec, "attack", attack.name)
    publish(selector_rows(folder, spec.selector, spec.seed), folder, selector_texts(folder))


def _run_all(cells: Sequence[tuple[StageFolder, Callable[[], None]]]) -> None:
    """Locks every folder, so that what stands against one is told before any works, then runs them."""
    with ExitStack() as stack:
        for stage, _ in cells:
            stack.enter_context(stage)
        for _, run in cells:
            run()


def _judge_of(spec: RunSpec, attack: PairSpec | SelectorAttackSpec) -> Callable[[], Judge]:
    return cache(lambda: make_judge(attack.judge, world_seed=spec.world_seed, paths=spec.paths))
