"""States against transformers' own ``hidden_states``, the head against its own logits, and modes given back."""

from __future__ import annotations

import pytest
import tiny_models
import torch

from dalign.attribute.batches import left_pad
from dalign.attribute.frozen import frozen
from dalign.attribute.hidden import causal_lm, output_head, read_states
from dalign.errors import ModelError

IDS = (5, 9, 30, 12, 44, 71, 8, 23, 11, 60, 35)


@pytest.mark.parametrize("kind", tiny_models.KINDS)
def test_layer_l_is_hidden_states_l_and_the_last_is_after_the_final_norm(kind: str) -> None:
    model = tiny_models.with_lora(tiny_models.tiny_model(kind))
    batch = left_pad([IDS[:6], IDS], 16, 0, torch.device("cpu"))
    with torch.no_grad():
        reading = read_states(model, batch)
        for i, ids in enumerate((IDS[:6], IDS)):
            whole = model(input_ids=torch.tensor([ids]), output_hidden_states=True, use_cache=False)
            wanted = torch.stack([layer[0, -1] for layer in whole.hidden_states])
            torch.testing.assert_close(reading.ends_BLD[i], wanted, atol=1e-5, rtol=1e-5)
            final = causal_lm(model).get_decoder()(input_ids=torch.tensor([ids]), use_cache=False).last_hidden_state[0]
            torch.testing.assert_close(reading.final_BTD[i, -len(ids) :], final, atol=1e-5, rtol=1e-5)
            assert not torch.allclose(wanted[-1], wanted[-2])


def test_no_hook_is_left_behind() -> None:
    model = tiny_models.tiny_model("llama")
    read_states(model, left_pad([IDS], 16, 0, torch.device("cpu")))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.model.layers)


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
        read_states(model, left_pad([IDS], 16, 0, torch.device("cpu")))


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
