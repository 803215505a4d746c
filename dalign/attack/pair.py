"""PAIR's loop over one policy and benchmark: attempts, answers, feedback, iteration by iteration, then the verdicts.

The unit of work is one iteration of a chunk of goals, committed whole: what was committed is the streams' history, so a
killed attack goes on from it. The reported judges come after all turns, and no turn depends on them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from dalign.attack.attacker import attacker_inputs
from dalign.attack.play import Players, iterate
from dalign.attack.reported import judge_turns, reported_judges
from dalign.attack.target import selector_inputs, targets_of
from dalign.attack.turns import Turn
from dalign.control_tokens import CONTROL_FILE, MODEL, record_control, record_judge_control
from dalign.errors import DataError
from dalign.files import read_records, write_records
from dalign.judges_file import NAME as JUDGES
from dalign.judges_file import check_judges, record_judge
from dalign.layout import stage_folder
from dalign.policies import policy_inputs
from dalign.prompts import load_benchmark
from dalign.prompts.spread import spread
from dalign.records import Prompt, digest
from dalign.specs.attack import PairSpec, Target
from dalign.specs.data import BenchmarkSpec
from dalign.specs.run import RunSpec
from dalign.store import MANIFEST, ChunkLog, StageFolder, progress_bar, run_chunks


@dataclass
class PairCell:
    """The folder ``attack/<attack>/<policy>/<benchmark>``."""

    spec: RunSpec
    attack: PairSpec
    policy: str
    benchmark: BenchmarkSpec
    stage: StageFolder = field(init=False)

    def __post_init__(self) -> None:
        spec = self.spec
        shared = {"model": spec.model.results(), "seed": spec.seed, "world_seed": spec.world_seed}
        teacher = {"teacher": spec.teacher.results()} if self.policy == "teacher" else {}
        served = {"sampler": {**spec.sampler.results(), "n": spec.sampler.n}, "selector": spec.selector.results()}
        self.stage = StageFolder(
            stage_folder(spec, "attack", self.attack.name, self.policy, self.benchmark.name),
            config={**spec.model_dump(mode="json"), "policy": self.policy},
            results={**shared, **teacher, **served, "attack": self.attack.results(), **self._scoring()},
            inputs={
                **policy_inputs(spec, self.policy),
                **attacker_inputs(self.attack, world_seed=spec.world_seed),
                **selector_inputs(spec),
                "goals": digest([goal.id for goal in self.goals]),
            },
        )

    @cached_property
    def goals(self) -> tuple[Prompt, ...]:
        """The harmful prompts of the benchmark. Raises ``DataError`` if it has none."""
        found = load_benchmark(self.benchmark, paths=self.spec.paths, world_seed=self.spec.world_seed)
        harmful = [prompt for prompt in found if prompt.kind == "harmful"]
        if not harmful:
            raise DataError(f"benchmark.{self.benchmark.name}: holds no harmful prompt to attack with; name another")
        return spread(harmful, self.spec.limit, [goal.subset for goal in harmful])

    @property
    def path(self) -> Path:
        return self.stage.path

    def turns(self) -> list[Turn]:
        """The final turns of the folder, none if there are none yet."""
        path = self.path / "turns.parquet"
        return read_records(path, Turn) if path.exists() else []

    def run(self, players: Players) -> None:
        """Attacks what is not attacked yet, has it judged, and closes the folder. To be called inside ``stage``."""
        judges = reported_judges(self.spec)
        check_judges(self.path, [*judges.values(), self.attack.judge])
        done = {turn.target for turn in self.turns()}
        for target in targets_of(self.spec, self.attack, self.policy):
            log: ChunkLog[Turn] = self.stage.chunk_log(f"turns_{target}", Turn)
            if target not in done:
                self._attack(target, players, log)
            log.remove()  # also what a kill left after its turns were final
        judge_turns(self.spec, self.stage, judges, self.goals, self.turns())
        if not self.stage.finished:
            self._finish()

    def _scoring(self) -> dict[str, Any]:
        return {"benchmark": self.benchmark.results(), "position": self.spec.attribution.position}

    def _attack(self, target: Target, players: Players, log: ChunkLog[Turn]) -> None:
        (self.path / MANIFEST).unlink(missing_ok=True)
        record_judge(self.path, self.attack.judge, players.judge())
        record_judge_control(self.path, players.judge())
        record_control(self.path, MODEL, players.policy().loaded.chat.control_strings)
        size, plan = self.attack.chunk, dict[str, Callable[[], Sequence[Turn]]]()
        for start in range(0, len(self.goals), size):
            for iteration in range(1, self.attack.iterations + 1):
                goals = self.goals[start : start + size]
                plan[_chunk(start, iteration)] = partial(self._iterate, target, players, log, goals, start, iteration)
        with progress_bar(f"{self.policy} on {self.benchmark.name}: attack on {target}") as progress:
            new = run_chunks(log, plan, progress)
        write_records(self.path / "goals.parquet", self.goals)
        write_records(self.path / "turns.parquet", [*self.turns(), *new])

    def _iterate(
        self, target: Target, players: Players, log: ChunkLog[Turn], goals: Sequence[Prompt], start: int, iteration: int
    ) -> list[Turn]:
        past = [turn for i in range(1, iteration) for turn in log.done[_chunk(start, i)]]
        return iterate(self.spec, self.attack, target, players, goals, past)

    def _finish(self) -> None:
        names = ["goals.parquet", "turns.parquet", "verdicts.parquet", JUDGES, CONTROL_FILE]
        turns = self.turns()
        self.stage.finish(
            [name for name in names if (self.path / name).exists()],
            goals=len(self.goals),
            targets=sorted({turn.target for turn in turns}),
            turns=len(turns),
            unreadable=sum(not turn.prompt for turn in turns),
        )


def _chunk(start: int, iteration: int) -> str:
    return f"{start:06d}/{iteration:03d}"
