"""What a GRPO step learns from: its prompts, whole groups of answers to them, and what these earn.

Everything hangs on the seed, the step and the attempt alone, so that a resumed run draws what it would have drawn, and
several processes, each at some of the prompts, what one would have.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import NamedTuple

from dalign.models import LoadedModel
from dalign.ranks import ALONE, Ranks
from dalign.records import Prompt, digest
from dalign.sample import sample_seed
from dalign.specs.grpo import GrpoStage
from dalign.specs.sampling import SamplerSpec
from dalign.train.grpo_batch import Judged, judge
from dalign.train.lora_float32 import merged
from dalign.train.plan import Plan
from dalign.train.rewards import Rewards
from dalign.train.rollouts import Rollout, draw_rollouts

POLICY = "grpo"


class StepPrompts(NamedTuple):
    """The indices of one step's prompts, its number from 0. (Lightning looks into a batch for tensors to move, and
    refuses frozen records.)"""

    step: int
    rows: tuple[int, ...]


class PromptSteps:
    """Makes a step of the indices of ``prompts``."""

    def __init__(self, prompts: Sequence[Prompt]) -> None:
        self.prompts = tuple(prompts)

    def step(self, number: int, rows: Sequence[int]) -> StepPrompts:
        """Step ``number`` over ``rows``."""
        return StepPrompts(number, tuple(rows))

    def digest(self, plan: Plan) -> str:
        """A hash of the prompts and their order."""
        return digest("grpo plan", [[self.prompts[i].id for i in step] for step in plan.steps])


class Drawer:
    """Draws answers to ``prompts`` from ``loaded`` as it stands, and has them judged."""

    def __init__(
        self,
        loaded: LoadedModel,
        stage: GrpoStage,
        sampler: SamplerSpec,
        prompts: Sequence[Prompt],
        rewards: Rewards,
        seed: int,
        ranks: Ranks = ALONE,
    ) -> None:
        self.loaded, self.stage, self.sampler, self.ranks = loaded, stage, sampler, ranks
        self.prompts, self.rewards, self.seed = prompts, rewards, seed

    def groups(self, batch: StepPrompts) -> tuple[Judged, Judged]:
        """The step's answers as drawn, and with other prompts' in place of groups that have nothing to say."""
        first = judged = self._judged([self.prompts[i] for i in batch.rows], batch.step, 0)
        group = self.stage.group
        for attempt in range(1, self.stage.resample + 1):
            dead = [g for g, is_dead in enumerate(judged.dead) if is_dead]
            others = self._other_prompts(judged, batch.step, attempt, len(dead))
            if not others:
                break
            drawn = list(judged.rollouts)
            again = self._judged(others, batch.step, attempt).rollouts
            for k, g in enumerate(dead[: len(others)]):
                drawn[g * group : (g + 1) * group] = again[k * group : (k + 1) * group]
            judged = judge(drawn, self.rewards, self.stage, self.ranks)
        return first, judged

    def one_each(self, prompts: Sequence[Prompt]) -> list[Rollout]:
        """One answer to each prompt, always from the same streams."""
        return self._draw(prompts, range(1), "validation")

    def _judged(self, prompts: Sequence[Prompt], step: int, attempt: int) -> Judged:
        drawn = self._draw(prompts, range(self.stage.group), f"{step}/{attempt}")
        return judge(drawn, self.rewards, self.stage, self.ranks)

    def _draw(self, prompts: Sequence[Prompt], indices: range, what: str) -> list[Rollout]:
        seed = sample_seed(self.seed, f"{POLICY}/{what}", 0)
        n = len(indices)

        def groups(some: Sequence[Prompt]) -> list[list[Rollout]]:
            with merged(self.loaded.model):
                drawn = draw_rollouts(self.loaded, self.sampler, some, indices, seed, policy=POLICY)
            return [drawn[i : i + n] for i in range(0, len(drawn), n)]

        return [rollout for group in self.ranks.spread(prompts, groups) for rollout in group]

    def _other_prompts(self, judged: Judged, step: int, attempt: int, count: int) -> list[Prompt]:
        taken = {r.prompt.id for r in judged.rollouts}
        left = [p for p in self.prompts if p.id not in taken]
        return Random(digest("resample", self.seed, step, attempt)).sample(left, min(count, len(left)))
