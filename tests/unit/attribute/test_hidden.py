"""States against transformers' own ``hidden_states``, the head against its own logits, and modes given back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import tiny_models
import torch

from dalign.attribute.batches import left_pad, right_pad
from dalign.attribute.frozen import frozen
from dalign.attribute.hidden import Reading, Wanted, output_head, read_prompts, read_responses
from dalign.attribute.pairs import Position
from dalign.errors import ModelError

Ids = tuple[int, ...]
IDS = (5, 9, 30, 12, 44, 71, 8, 23, 11, 60, 35)


CPU = torch.device("cpu")


def read(model: Any, pairs: Sequence[tuple[Ids, Ids]], wanted: Wanted) -> Reading:
    """The pairs' states, each distinct prompt passed once."""
    prompts = list(dict.fromkeys(prompt for prompt, _ in pairs))
    rows = torch.tensor([prompts.index(prompt) for prompt, _ in pairs])
    with torch.no_grad():
        begun = read_prompts(model, left_pad(prompts, 16, 0, CPU), wanted)
        return read_responses(model, begun, rows, right_pad([tail for _, tail in pairs], 24, 0, CPU), wanted)


PAIRS = ((IDS[:6], IDS), (IDS[:6], IDS[3:5]), (IDS, IDS[:7] * 3), (IDS[4:5], IDS[:1]))


@pytest.mark.parametrize("position", ["content", "mean"])
@pytest.mark.parametrize("final", [False, True])
@pytest.mark.parametrize("top", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("kind", tiny_models.KINDS)
def test_layer_l_is_hidden_states_l_and_the_last_is_after_the_final_norm(
    kind: str, top: int, final: bool, position: Position
) -> None:
    """Early exit, shared prompts, padding on both sides, sliding windows: what a plain pass of each pair gives."""
    model = tiny_models.with_lora(tiny_models.tiny_model(kind, layers=4))
    reading = read(model, PAIRS, Wanted(top, (position,), final))
    assert reading.ends_BLD.shape[1] == top + 1
    for i, (prompt, tail) in enumerate(PAIRS):
        with torch.no_grad():
            whole = model(input_ids=torch.tensor([prompt + tail]), output_hidden_states=True, use_cache=False)
        ours = torch.stack([layer[0, len(prompt) :] for layer in whole.hidden_states])
        wanted = ours.mean(1) if position == "mean" else ours[:, -1]
        torch.testing.assert_close(reading.ends_BLD[i], wanted[: top + 1], atol=1e-5, rtol=1e-5)
        assert not torch.allclose(wanted[-1], wanted[-2])
        assert (reading.final_BTD is not None) == final
        if reading.final_BTD is not None:
            states = whole.hidden_states[-1][0, len(prompt) - 1 : -1]
            torch.testing.assert_close(reading.final_BTD[i, : len(tail)], states, atol=1e-5, rtol=1e-5)


def test_no_layer_above_the_highest_wanted_runs_and_that_one_at_the_places_read_alone() -> None:
    model = tiny_models.tiny_model("llama", layers=4)
    shapes: list[tuple[int, tuple[int, ...]]] = []
    for i, layer in enumerate(model.model.layers):
        layer.mlp.register_forward_hook(lambda _, args, __, i=i: shapes.append((i, tuple(args[0].shape[:2]))))
    read(model, PAIRS, Wanted(2))
    prompts, pairs = (3, 16), (4, 24)
    assert shapes == [(0, prompts), (1, (3, 1)), (0, pairs), (1, (4, 1))]


def test_nothing_is_left_behind() -> None:
    model = tiny_models.tiny_model("llama")
    layers, norm = model.model.layers, model.model.norm
    read(model, PAIRS, Wanted(1))
    assert model.model.layers is layers
    assert model.model.norm is norm
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in layers)


def test_eager_attention_reads_the_same() -> None:
    model = tiny_models.tiny_model("gemma3")
    wanted = read(model, PAIRS, Wanted(2)).ends_BLD
    model.set_attn_implementation("eager")
    torch.testing.assert_close(read(model, PAIRS, Wanted(2)).ends_BLD, wanted, atol=1e-5, rtol=1e-5)


def test_layers_whose_prompts_cannot_be_shared_are_refused() -> None:
    from transformers import MambaConfig, MambaForCausalLM

    model = MambaForCausalLM(MambaConfig(vocab_size=96, hidden_size=16, num_hidden_layers=2, state_size=4))
    with pytest.raises(ModelError, match="not supported"):
        read(model, PAIRS, Wanted(1))


@pytest.mark.parametrize("kind", tiny_models.KINDS)
def test_the_head_gives_the_models_own_logits(kind: str) -> None:
    model = tiny_models.tiny_model(kind)
    if kind == "gemma3":
        model.config.final_logit_softcapping = 2.0
    with torch.no_grad():
        out = model(input_ids=torch.tensor([IDS]), output_hidden_states=True)
        torch.testing.assert_close(output_head(model)(out.hidden_states[-1][0]), out.logits[0])


def test_a_model_that_does_more_to_its_logits_is_refused() -> None:
    model = tiny_models.tiny_model("llama")
    plain = model.forward

    def scaled(*args: object, **kwargs: object) -> object:
        out = plain(*args, **kwargs)
        out.logits = out.logits * 0.0625
        return out

    model.forward = scaled
    with torch.no_grad(), pytest.raises(ModelError, match="does more to its logits"):
        output_head(model)


def test_a_decoder_without_layers_is_refused() -> None:
    model = tiny_models.tiny_model("llama")
    del model.model.layers
    with pytest.raises(ModelError, match="no list of layers"):
        read(model, PAIRS, Wanted(1))


def test_frozen_gives_every_module_its_own_mode_back() -> None:
    model = tiny_models.tiny_model("qwen2")
    model.model.layers[1].train()
    before = [module.training for module in model.modules()]
    with frozen(model):
        assert not any(module.training for module in model.modules())
        assert not torch.is_grad_enabled()
    assert [module.training for module in model.modules()] == before
    assert torch.is_grad_enabled()


def test_frozen_gives_modes_back_after_an_error() -> None:
    model = tiny_models.tiny_model("qwen2").train()
    with pytest.raises(KeyError), frozen(model):
        raise KeyError
    assert all(module.training for module in model.modules())
