"""LitGRPO: it learns, starts from the distilled adapter, draws what the saved policy would, and resumes exactly."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_grpo import LikesBread, distilled, grpo_spec, make_prompts, run_grpo
from tiny_stage import make_checkpoint, metrics
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from dalign.errors import ConfigError, ModelError
from dalign.models import LoadedModel, load_model
from dalign.specs.grpo import GrpoStage, sampler_fault
from dalign.specs.run import RunSpec
from dalign.specs.sampling import SamplerSpec
from dalign.store import StageFolder
from dalign.train.forward import prepared, take_apart
from dalign.train.grpo import LitGRPO
from dalign.train.grpo_batch import judge, micros, step_size
from dalign.train.grpo_draw import PromptSteps, StepPrompts
from dalign.train.loader import PlannedSteps
from dalign.train.plan import make_plan
from dalign.train.rewards import Rewards
from dalign.train.rollouts import draw_rollouts
from dalign.train.trainer import fit, settle

TIMES = {"rollout_s", "learn_s"}


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In place of the room's: one that an adapter can teach."""
    return make_checkpoint(tmp_path_factory.mktemp("sharp"), sharpness=10.0)


@pytest.fixture(scope="session")
def adapter(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.set_num_threads(1)
    return distilled(tiny_checkpoint, tmp_path_factory.mktemp("distilled"))


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k not in TIMES} for row in metrics(path)]


def in_its_dtype(norm: LlamaRMSNorm, x: torch.Tensor) -> torch.Tensor:
    """The norm without transformers' detour through float32, which rounds a sum otherwise than its parts."""
    return norm.weight * x * torch.rsqrt(x.square().mean(-1, keepdim=True) + norm.variance_epsilon)


def module_of(spec: RunSpec, adapter: str, *, double: bool = False) -> tuple[LitGRPO, list[dict[str, Any]]]:
    """The module on the first 16 prompts, none held out, and the list its rows go to."""
    stage = spec.stage
    assert isinstance(stage, GrpoStage)
    settle(spec.trainer, 0)
    loaded = load_model(spec.model, adapter=adapter, trainable=True)
    if double:
        loaded.model.double()
        for norm in (m for m in loaded.model.modules() if isinstance(m, LlamaRMSNorm)):
            norm.forward = partial(in_its_dtype, norm)
    prompts = make_prompts(16)
    plan = make_plan(16, batch=stage.prompts, epochs=stage.epochs, max_steps=stage.max_steps, seed=0)
    parts = take_apart(loaded.model, torch.tensor(loaded.chat.user_ids(prompts[0].text, think=True)))
    rewards = Rewards(stage.rewards, {"harm": LikesBread()}, spec.sampler.max_new_tokens)
    rows: list[dict[str, Any]] = []
    steps = PlannedSteps(PromptSteps(prompts), plan)
    module = LitGRPO(loaded, parts, stage, spec.sampler, steps, (), rewards, 0, lambda row: rows.append(dict(row)))
    return module, rows


def train(module: LitGRPO, spec: RunSpec) -> None:
    stage = module.stage
    with prepared(module.model, recompute=False):
        module.train()
        fit(module, spec.trainer, device=torch.device("cpu"), max_steps=len(module.steps) * stage.updates)


def test_it_learns_the_word_that_is_rewarded(tiny_checkpoint: Path, adapter: str, tmp_path: Path) -> None:
    spec = grpo_spec(tiny_checkpoint, lr=1e-2, max_steps=25, prompts=8, group=8, validate_every=25)
    run_grpo(spec, adapter, tmp_path)
    rows = rows_of(tmp_path)
    rewards = [row["reward"] for row in rows if "loss" in row]
    assert sum(rewards[-3:]) / 3 > 2 * rewards[0] + 0.1
    first, *_, last = [row for row in rows if "validation_reward" in row]
    assert (first["step"], last["step"]) == (0, 25)
    assert last["validation_reward"] > first["validation_reward"] + 0.1
    assert first["validation_kl"] == 0.0  # the reference is the distilled adapter, not the base
    assert last["validation_kl"] > 0.01


def test_it_starts_from_the_distilled_adapter_and_moves_it(tiny_checkpoint: Path, adapter: str, tmp_path: Path) -> None:
    """The released code loads its adapter frozen, and trains nothing without a word (paper error 9)."""
    outcome = run_grpo(grpo_spec(tiny_checkpoint, max_steps=1, lr=1e-6), adapter, tmp_path)
    before = load_file(Path(adapter) / "adapter_model.safetensors")
    after = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert before.keys() == after.keys()
    away = max(float((after[name] - before[name]).abs().max()) for name in before)
    assert 0 < away < 1e-4
    assert outcome.facts["trainable_parameters"] == sum(t.numel() for t in before.values())


def test_rows_tell_what_happened(tiny_checkpoint: Path, adapter: str, tmp_path: Path) -> None:
    run_grpo(grpo_spec(tiny_checkpoint, max_steps=2), adapter, tmp_path)
    row = next(row for row in rows_of(tmp_path) if "loss" in row)
    assert 0 < row["reward"] <= row["reward/safe"] + 0.5 * row["reward/finished"]
    assert 0 < row["entropy"] < 4
    assert 0 <= row["dead_groups"] <= 1
    assert row["engine_distance"] < 1e-4  # float32: the engine draws from what the trainer computes
    assert row["engine_farthest"] < 1e-3
    assert (row["clipped_low"], row["clipped_high"], row["kl"]) == (0.0, 0.0, None)
    assert 1 < row["length"] <= 12


@pytest.mark.parametrize("stop_at", [1, 3, 4])
def test_a_resumed_run_equals_the_uninterrupted_one(
    tiny_checkpoint: Path, adapter: str, tmp_path: Path, stop_at: int
) -> None:
    class StoppedError(Exception):
        """Stands for a kill."""

    class Stopping(StageFolder):
        def log(self, row: Mapping[str, float | int | str | None]) -> None:
            super().log(row)
            if row.get("step") == stop_at and "loss" in row:
                raise StoppedError

    spec = grpo_spec(tiny_checkpoint)
    run_grpo(spec, adapter, tmp_path / "whole")
    with pytest.raises(StoppedError):
        run_grpo(spec, adapter, tmp_path / "cut", Stopping)
    assert not (tmp_path / "cut" / "adapter").exists()
    run_grpo(spec, adapter, tmp_path / "cut")
    assert rows_of(tmp_path / "cut") == rows_of(tmp_path / "whole")
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        assert (tmp_path / "cut" / "adapter" / name).read_bytes() == (tmp_path / "whole/adapter" / name).read_bytes()


@pytest.mark.parametrize("loss", ["grpo", "dr_grpo", "dapo", "cispo", "gspo"])
def test_the_cut_into_micro_batches_changes_nothing(tiny_checkpoint: Path, adapter: str, loss: str) -> None:
    """Rows of one, or all together: losses, gradient norms and parameters after three steps, in float64."""
    found = []
    for budget in (1, 10_000):
        spec = grpo_spec(
            tiny_checkpoint, max_steps=3, lr=1e-3, micro_batch_tokens=budget, loss={"name": loss, "beta": 0.1}
        )
        module, rows = module_of(spec, adapter, double=True)
        train(module, spec)
        found.append((rows, {name: p.clone() for name, p in module.trained.items()}))
    for one, other in zip(*(rows for rows, _ in found), strict=True):
        for name in ("loss", "grad_norm", "entropy", "kl", "reward"):
            assert one[name] == pytest.approx(other[name], rel=1e-9, abs=1e-12), name
    for name, tensor in found[0][1].items():
        torch.testing.assert_close(tensor, found[1][1][name], rtol=0, atol=1e-9)


def test_answers_are_those_of_the_saved_policy(tiny_checkpoint: Path, adapter: str) -> None:
    """Drawn while the model is in training mode under a LoRA with dropout (trl #3000, #3683)."""
    spec = grpo_spec(tiny_checkpoint)
    module, _ = module_of(spec, adapter)
    fresh: LoadedModel = load_model(spec.model, adapter=adapter)
    asked = (make_prompts(3), range(4), 5)
    with prepared(module.model, recompute=True):
        drawn = draw_rollouts(module.loaded, spec.sampler, *asked, policy="grpo")
        assert any(m.training for m in module.model.modules())
    saved = draw_rollouts(fresh, spec.sampler, *asked, policy="grpo")
    assert [r.ids for r in drawn] == [r.ids for r in saved]


def test_log_probabilities_are_those_of_the_tokens_drawn(tiny_checkpoint: Path, adapter: str) -> None:
    """By hand, a row at a time without padding: at the temperature, each token from the logits before it, the stopping
    token included (trl #3029, #4159; prime-rl PR #1525)."""
    spec = grpo_spec(
        tiny_checkpoint, {"temperature": 0.6, "max_new_tokens": 4}, loss={"beta": 1.0}
    )  # with a penalty every row is run
    module, _ = module_of(spec, adapter)
    rollouts = draw_rollouts(module.loaded, spec.sampler, make_prompts(4), range(4), 1, policy="grpo")
    assert {r.truncated for r in rollouts} == {True, False}
    judged = judge(rollouts, module.drawer.rewards, module.stage)
    for part in micros(judged, module.stage, context=64, pad_id=0):
        with torch.no_grad():
            found = module._logp(part)
        for b in range(len(part.ids)):
            at = part.mask[b].nonzero()[:, 0]
            ids = part.ids[b, : int(at[-1]) + 1]
            with torch.no_grad():
                logits = module.model(input_ids=ids[None]).logits[0]
            logp = (logits / 0.6).log_softmax(-1)
            by_hand = torch.stack([logp[t - 1, ids[t]] for t in at.tolist()])
            torch.testing.assert_close(found.logp[b, at], by_hand, rtol=0, atol=1e-5)
            torch.testing.assert_close(part.engine[b, at], by_hand, rtol=0, atol=1e-4)
            entropy = -(logp.exp() * logp).sum(-1)[at - 1]
            torch.testing.assert_close(found.entropy[b, at], entropy, rtol=0, atol=1e-5)
    stopped = next(r for r in rollouts if not r.truncated)
    assert stopped.ids[-1] in module.loaded.eos_ids
    assert len(stopped.ids) - stopped.start == len(stopped.sample.response_ids) + 1


def test_a_step_with_nothing_to_say_changes_nothing(tiny_checkpoint: Path, adapter: str, tmp_path: Path) -> None:
    """Every answer is worth the same: a loss of 0, no gradient, not even the weights' decay."""
    rewards = {"same": {"kind": "length", "weight": 0.0}}
    spec = grpo_spec(tiny_checkpoint, max_steps=2, rewards=rewards, weight_decay=0.1)
    module, rows = module_of(spec, adapter)
    train(module, spec)
    assert all(torch.equal(p, module.reference[name]) for name, p in module.trained.items())
    assert [(row["loss"], row["grad_norm"], row["dead_groups"]) for row in rows] == [(0.0, 0.0, 1.0)] * 2
    with pytest.raises(ModelError, match="adapter did not change in 2 steps"):
        run_grpo(spec, adapter, tmp_path)


def test_truncated_answers_are_counted_or_masked(tiny_checkpoint: Path, adapter: str) -> None:
    short, rewards = {"max_new_tokens": 4}, {"finished": {"kind": "finished"}}
    counted, _ = module_of(grpo_spec(tiny_checkpoint, short, rewards=rewards), adapter)
    masked, _ = module_of(grpo_spec(tiny_checkpoint, short, rewards=rewards, truncated="mask"), adapter)
    batch = StepPrompts(0, (0, 1, 2, 3))
    (_, one), (_, other) = counted.drawer.groups(batch), masked.drawer.groups(batch)
    cut = [r.truncated for r in one.rollouts]
    assert 0 < sum(cut) < 16
    assert one.advantages.known == (True,) * 16
    assert [not known for known in other.advantages.known] == cut
    lengths = [len(r.ids) - r.start for r in one.rollouts]
    assert step_size(one, 4)[:2] == (16, sum(lengths))
    kept = [n for n, out in zip(lengths, cut, strict=True) if not out]
    assert step_size(other, 4)[:2] == (len(kept), sum(kept))  # trl #6369


def test_a_penalty_holds_the_policy_near_the_reference(tiny_checkpoint: Path, adapter: str, tmp_path: Path) -> None:
    """slime #397: a coefficient that was never used."""
    away = []
    for beta in (0.0, 1.0):
        spec = grpo_spec(tiny_checkpoint, max_steps=10, loss={"beta": beta})
        run_grpo(spec, adapter, tmp_path / str(beta))
        rows = rows_of(tmp_path / str(beta))
        away.append(rows[-1]["validation_kl"])
        assert all((row["kl"] is None) == (beta == 0.0) for row in rows if "loss" in row)
    assert 0 < away[1] < 0.5 * away[0]


def test_several_updates_clip(tiny_checkpoint: Path, adapter: str, tmp_path: Path) -> None:
    spec = grpo_spec(tiny_checkpoint, updates=3, lr=0.1, max_steps=4)
    run_grpo(spec, adapter, tmp_path)
    rows = [row for row in rows_of(tmp_path) if "loss" in row]
    assert len(rows) == 4
    assert max(row["clipped_low"] + row["clipped_high"] for row in rows if row["clipped_low"] is not None) > 0


def test_dead_groups_are_drawn_again_from_other_prompts(tiny_checkpoint: Path, adapter: str) -> None:
    rewards = {"safe": {"kind": "safe", "judge": "harm", "binary": True}}
    spec = grpo_spec(tiny_checkpoint, rewards=rewards, resample=6)
    module, _ = module_of(spec, adapter)
    first, judged = module.drawer.groups(StepPrompts(0, (0, 1, 2, 3)))
    assert sum(judged.dead) < sum(first.dead)
    for g, dead in enumerate(first.dead):
        assert (judged.rollouts[4 * g].prompt == first.rollouts[4 * g].prompt) != dead
    assert len({r.prompt.id for r in judged.rollouts}) == 4


def test_a_rate_too_small_to_move_a_weight_is_told_at_the_first_step(tiny_checkpoint: Path, adapter: str) -> None:
    spec = grpo_spec(tiny_checkpoint, lr=1e-30)
    module, _ = module_of(spec, adapter)
    with pytest.raises(ModelError, match="is what it was after a step"):
        train(module, spec)


@pytest.mark.parametrize(
    "options", [{"top_p": 0.9}, {"top_k": 5}, {"min_p": 0.1}, {"repetition_penalty": 1.1}, {"temperature": 0.0}]
)
def test_samplers_of_another_distribution_are_refused(
    tiny_checkpoint: Path, adapter: str, tmp_path: Path, options: dict[str, float]
) -> None:
    (key,) = options
    with pytest.raises(ConfigError, match=f"sampler.{key}="):
        run_grpo(grpo_spec(tiny_checkpoint, options), adapter, tmp_path)
    assert sampler_fault(SamplerSpec(name="s")) == ""
