"""LitDistill: one normaliser a step, dropout and recomputation where they belong, and errors instead of silence."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_models import tiny_model, with_lora
from tiny_stage import metrics, run_spec, run_stage
from transformers import AutoTokenizer

from dalign.errors import ConfigError, ModelError
from dalign.specs.stage import DistillStage, TrainerSpec
from dalign.train.distill import LitDistill
from dalign.train.examples import Example
from dalign.train.forward import prepared, take_apart, trainable_parameters
from dalign.train.loader import Batches, PlannedSteps
from dalign.train.plan import make_plan
from dalign.train.trainer import fit as run
from dalign.train.trainer import settle

DEVICE = torch.device("cpu")
TRAINER = TrainerSpec(name="cpu", accelerator="cpu", threads=1)


def make_examples(n: int, vocabulary: int = 97) -> list[Example]:
    """Rows of 6 to 20 random ids, the completion starting between the third and the last."""
    generator = torch.Generator().manual_seed(3)
    lengths = [6 + (5 * i) % 15 for i in range(n)]
    rows = [torch.randint(2, vocabulary, (length,), generator=generator).tolist() for length in lengths]
    return [Example(str(i), str(i), tuple(row), 2 + i % (len(row) - 2)) for i, row in enumerate(rows)]


def fit(
    model: Any, stage: DistillStage, examples: Sequence[Example], *, recompute: bool = False, validate: int = 0
) -> tuple[LitDistill, list[dict[str, Any]]]:
    """Trains ``model`` in place; the last ``validate`` examples are held out. Returns the module and its rows."""
    settle(TRAINER, 0)
    train, held_out = examples[: len(examples) - validate], examples[len(examples) - validate :]
    plan = make_plan(len(train), batch=stage.batch, epochs=stage.epochs, max_steps=stage.max_steps, seed=0)
    steps = PlannedSteps(Batches(train, stage, context=64, pad_id=0), plan)
    validation = Batches(held_out, stage, context=64, pad_id=0).of(range(len(held_out)))
    parts = take_apart(model, torch.tensor(train[0].ids[:6]))
    rows: list[dict[str, Any]] = []
    with prepared(model, recompute=recompute):
        module = LitDistill(model, parts, stage, steps, validation, lambda row: rows.append(dict(row)))
        run(module, TRAINER, device=DEVICE, max_steps=len(plan.steps))
    return module, rows


def stage_of(**options: Any) -> DistillStage:
    return DistillStage(**{"lr": 1e-2, "batch": 8, "bucket": 8, "epochs": 1, "validate_every": 1, **options})


@pytest.mark.parametrize("kind", ["qwen2", "gemma3"])
def test_eight_micro_batches_of_one_equal_one_of_eight(kind: str) -> None:
    """The normaliser is the completion tokens of the whole step (errors: trl #3021, ms-swift #10117)."""
    results = []
    for budget in (10_000, 1):
        model = with_lora(tiny_model(kind, layers=2)).double()
        stage = stage_of(micro_batch_tokens=budget, epochs=3)
        module, rows = fit(model, stage, make_examples(8))
        batch = module.steps.batches.step(0, range(8))
        results.append((len(batch.parts), rows, module.state_dict()))
    assert [n for n, _, _ in results] == [1, 8]
    for one, eight in zip(results[0][1], results[1][1], strict=True):
        for name in ("loss", "token_accuracy", "grad_norm", "lr", "tokens"):
            assert one[name] == pytest.approx(eight[name], rel=1e-10), name
    for name, tensor in results[0][2].items():
        torch.testing.assert_close(tensor, results[1][2][name], rtol=1e-9, atol=1e-12)


def test_the_loss_of_a_step_is_the_mean_over_its_completion_tokens() -> None:
    model, examples = with_lora(tiny_model("llama", layers=2)), make_examples(5)
    total, tokens = 0.0, 0
    with torch.no_grad():
        for example in examples:  # brute force: each row alone, unpadded, token by token
            logp = model(torch.tensor([example.ids])).logits[0].log_softmax(-1)
            for t in range(example.completion_start, len(example.ids)):
                total, tokens = total - float(logp[t - 1, example.ids[t]]), tokens + 1
    _, rows = fit(model, stage_of(micro_batch_tokens=48), examples)
    assert rows[0]["loss"] == pytest.approx(total / tokens, rel=1e-5)
    assert rows[0]["tokens"] == sum(len(e.ids) for e in examples)


def test_padding_changes_no_loss() -> None:
    for kind in ("qwen2", "llama", "gemma3"):
        model, examples = tiny_model(kind, layers=3), make_examples(4)
        narrow, wide = (Batches(examples, stage_of(bucket=b), context=64, pad_id=5) for b in (1, 64))
        parts = take_apart(model, torch.tensor(examples[0].ids))
        with torch.no_grad():
            for i in range(4):
                (tight,), (padded,) = narrow.of([i]), wide.of([i])
                assert (tight.ids.shape[1], padded.ids.shape[1]) == (len(examples[i].ids), 64)
                states = parts.states(padded.ids)[:, : tight.ids.shape[1]]
                torch.testing.assert_close(states, parts.states(tight.ids), rtol=0, atol=1e-5)


def test_the_loss_falls_and_the_gradient_is_clipped() -> None:
    module, rows = fit(
        with_lora(tiny_model("llama", layers=2), scale=0.01), stage_of(epochs=12, clip=0.05), make_examples(8)
    )
    assert rows[-1]["loss"] < 0.8 * rows[0]["loss"]
    assert min(r["grad_norm"] for r in rows) > 0.05  # logged before clipping
    moment = module.optimizers().optimizer.state[next(iter(module.trained.values()))]["exp_avg"]
    assert float(moment.norm()) < 0.05


def test_dropout_is_on_in_training_and_off_in_validation() -> None:
    model = with_lora(tiny_model("llama", layers=2), lora_dropout=0.5)
    seen: dict[bool, set[bool]] = {True: set(), False: set()}
    dropouts = [m for m in model.modules() if isinstance(m, torch.nn.Dropout) and m.p == 0.5]
    for dropout in dropouts:
        dropout.register_forward_hook(lambda m, args, out: seen[torch.is_grad_enabled()].add(torch.equal(*args, out)))
    _, rows = fit(model, stage_of(epochs=2), make_examples(6), validate=2)
    assert dropouts
    assert seen == {True: {False}, False: {True}}
    assert [r["step"] for r in rows if "validation_loss" in r] == [0, 1, 2]


def test_validation_is_over_the_held_out_tokens_and_moves_nothing() -> None:
    examples = make_examples(10)
    model = with_lora(tiny_model("llama", layers=2))
    with torch.no_grad():
        parts, batches = (
            take_apart(model, torch.tensor(examples[0].ids)),
            Batches(examples[8:], stage_of(), context=64, pad_id=0),
        )
        losses = [
            torch.nn.functional.cross_entropy(
                model(batch.ids).logits[0, :-1][batch.mask[0, 1:]], batch.ids[0, 1:][batch.mask[0, 1:]], reduction="sum"
            )
            for batch in (batches.of([i])[0] for i in (0, 1))
        ]
    assert parts.chunk > 0
    tokens = sum(e.completion_tokens for e in examples[8:])
    with_validation, rows = fit(model, stage_of(), examples, validate=2)
    assert rows[0]["validation_loss"] == pytest.approx(float(sum(losses)) / tokens, rel=1e-5)
    without, _ = fit(with_lora(tiny_model("llama", layers=2)), stage_of(), examples[:8])
    for name, tensor in without.state_dict().items():
        assert torch.equal(tensor, with_validation.state_dict()[name])


@pytest.mark.parametrize("recompute", [False, True])
def test_gradient_checkpointing_recomputes_every_layer_and_changes_nothing(recompute: bool) -> None:
    """From ``from_pretrained`` the layers are in evaluation mode, and recomputation silently off (Lightning #20105)."""
    model = with_lora(tiny_model("qwen2", layers=2))
    model.eval()
    calls: list[int] = []
    for layer in model.get_base_model().model.layers:
        layer.self_attn.q_proj.register_forward_hook(lambda m, args, out: calls.append(1) if m.training else None)
    module, rows = fit(model, stage_of(), make_examples(8), recompute=recompute)
    micro_batches = len(module.steps.batches.step(0, range(8)).parts)
    assert len(calls) == 2 * micro_batches * (2 if recompute else 1)
    plain, reference = fit(with_lora(tiny_model("qwen2", layers=2)), stage_of(), make_examples(8))
    assert rows[0]["loss"] == pytest.approx(reference[0]["loss"], rel=1e-6)
    for name, tensor in plain.state_dict().items():
        torch.testing.assert_close(tensor, module.state_dict()[name], rtol=1e-4, atol=1e-6)
    assert not model.training
    assert not model.get_base_model().is_gradient_checkpointing


def test_only_trainable_tensors_move_and_are_saved() -> None:
    model = with_lora(tiny_model("llama", layers=2))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    module, _ = fit(model, stage_of(), make_examples(8))
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert moved == set(module.state_dict())
    assert all("lora_" in name for name in moved)


def test_paper_error_9_an_adapter_that_is_not_trainable_is_refused() -> None:
    """The released GRPO code loads its adapter frozen and trains nothing, in silence (PAPER, error 9)."""
    model = with_lora(tiny_model("llama", layers=2))
    for p in model.parameters():
        p.requires_grad_(False)
    with pytest.raises(ModelError, match="0 trainable parameters"):
        trainable_parameters(model)
    with pytest.raises(ModelError, match="0 trainable parameters"):
        fit(model, stage_of(), make_examples(8))


def test_a_loss_that_is_not_finite_stops_before_the_weights_are_touched() -> None:
    model = with_lora(tiny_model("llama", layers=2))
    before = {name: p.detach().clone() for name, p in trainable_parameters(model).items()}
    with torch.no_grad():
        model.get_base_model().model.layers[1].mlp.up_proj.base_layer.weight[0, 0] = float("inf")
    with pytest.raises(ModelError, match=r"loss nan.*optimiser step 1.*stage\.lr=0\.01.*traces: "):
        fit(model, stage_of(), make_examples(8))
    assert all(torch.equal(p, before[name]) for name, p in trainable_parameters(model).items())


def test_an_adapter_that_did_not_move_is_an_error(tmp_path: Path, tiny_checkpoint: Path) -> None:
    with pytest.raises(ModelError, match="the adapter did not change in 6 steps"):
        run_stage(run_spec(tiny_checkpoint, {"lr": 1e-60}), tmp_path)
    assert not (tmp_path / "adapter").exists()


def test_more_than_one_device_is_refused(tmp_path: Path, tiny_checkpoint: Path) -> None:
    spec = run_spec(tiny_checkpoint)
    two = spec.model_copy(update={"trainer": TrainerSpec(name="cpu", devices=2)})
    with pytest.raises(ConfigError, match=r"trainer\.devices=2"):
        run_stage(two, tmp_path)


def test_training_is_deterministic_and_fills_no_memory_for_it() -> None:
    model, seen = with_lora(tiny_model("llama", layers=1)), []
    deterministic, filled = torch.are_deterministic_algorithms_enabled, torch.utils.deterministic
    layer = model.get_base_model().model.layers[0]
    layer.register_forward_hook(lambda *_: seen.append((deterministic(), filled.fill_uninitialized_memory)))
    before = (deterministic(), filled.fill_uninitialized_memory)
    fit(model, stage_of(), make_examples(8))
    assert seen[-1] == (True, False)
    assert (deterministic(), filled.fill_uninitialized_memory) == before


def test_a_bfloat16_base_learns_as_in_float32() -> None:
    """The products are in bfloat16 there, LoRA's too; the losses of ten steps stay within its precision."""
    losses = []
    for dtype in (torch.float32, torch.bfloat16):
        model = with_lora(tiny_model("llama", layers=2).to(dtype), scale=0.01)
        module, rows = fit(model, stage_of(epochs=10), make_examples(8))
        assert all(p.dtype == torch.float32 for p in module.trained.values())
        losses.append([row["loss"] for row in rows])
    assert losses[1] == pytest.approx(losses[0], rel=0.02)
    assert losses[0][-1] < 0.9 * losses[0][0]


def test_a_fully_trained_bfloat16_module_moves_at_a_small_rate(tmp_path: Path, tiny_checkpoint: Path) -> None:
    """In bfloat16 a step of 1e-5 is below half the spacing at 0.02: the paper's lm_head would never move."""
    lora = {"modules_to_save": ("lm_head",), "dropout": 0.0}
    run_stage(run_spec(tiny_checkpoint, {"lr": 1e-5, "max_steps": 3}, dtype="bfloat16", lora=lora), tmp_path)
    base = load_file(tiny_checkpoint / "model.safetensors")["lm_head.weight"].bfloat16().float()
    trained = load_file(tmp_path / "adapter/adapter_model.safetensors")["base_model.model.lm_head.weight"]
    assert trained.dtype == torch.float32
    moved = (trained - base).abs()
    assert 1e-5 < float(moved.max()) <= 3.02e-5  # three steps of the rate
    swallowed = trained.bfloat16().float() == base
    assert swallowed[base.abs() > 0.01].all()


def test_trainable_tokens_are_trained_and_saved_alone(tmp_path: Path, tiny_checkpoint: Path) -> None:
    outcome = run_stage(run_spec(tiny_checkpoint, lora={"trainable_tokens": ("bake", "barn")}), tmp_path)
    tensors = load_file(tmp_path / "adapter/adapter_model.safetensors")
    (name,) = [n for n in tensors if "lora_" not in n]
    base = load_file(tiny_checkpoint / "model.safetensors")["model.embed_tokens.weight"]
    tokenizer = AutoTokenizer.from_pretrained(tiny_checkpoint)
    rows = base[tokenizer.convert_tokens_to_ids(["bake", "barn"])]
    assert tensors[name].shape == rows.shape
    assert float((tensors[name] - rows).abs().max()) > 1e-4
    assert outcome.facts["trainable_parameters"] == 3712 + 64


def test_a_model_that_changes_its_logits_is_used_whole(caplog: pytest.LogCaptureFixture) -> None:
    plain, capped = tiny_model("gemma3", layers=2), tiny_model("gemma3", layers=2)
    capped.config.final_logit_softcapping = 2.0
    ids = torch.arange(2, 10)
    assert take_apart(plain, ids).head is plain.get_output_embeddings()
    assert not caplog.records
    parts = take_apart(capped, ids)
    assert "changes its logits" in caplog.text
    with torch.no_grad():
        torch.testing.assert_close(parts.head(parts.states(ids[None])), capped(ids[None]).logits)


def test_the_logged_rows_of_a_stage(tmp_path: Path, tiny_checkpoint: Path) -> None:
    outcome = run_stage(run_spec(tiny_checkpoint, {"schedule": "linear", "warmup": 0.34}), tmp_path)
    rows = [r for r in metrics(tmp_path) if "loss" in r]
    assert [r["step"] for r in rows] == [1, 2, 3, 4, 5, 6]
    assert [r["epoch"] for r in rows] == [0, 0, 0, 1, 1, 1]
    assert [r["lr"] for r in rows] == pytest.approx([0.005, 0.01, 0.01, 0.0075, 0.005, 0.0025])
    assert outcome.facts["optimiser_steps"] == 6
    assert outcome.facts["examples"] + outcome.facts["validation_examples"] == 24
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "adapter",
        "config.yaml",
        "inputs.json",
        "metrics.csv",
        "metrics.jsonl",
        "versions.json",
    ]
