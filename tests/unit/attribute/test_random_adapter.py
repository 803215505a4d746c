"""A random adapter: of the student's size in every module, drawn anew by its seed, and gone without a trace."""

from __future__ import annotations

import pytest
import tiny_models
import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import LoraLayer
from torch import Tensor

from dalign.attribute import Pair, score_pairs
from dalign.attribute.random_adapter import random_adapter, update_norm
from dalign.errors import ModelError
from dalign.models import LoadedModel
from dalign.specs.sampling import AttributionSpec

SIMILARITY = AttributionSpec(name="similarity", flat=())
PAIRS = [Pair((5, 6, 7), (8, 9)), Pair((4, 9), (10, 11, 12))]


def updates(loaded: LoadedModel) -> dict[str, Tensor]:
    """Every module's whole update, the product written out."""
    layers = {name: m for name, m in loaded.model.named_modules() if isinstance(m, LoraLayer)}
    return {name: m.get_delta_weight("default").detach().clone() for name, m in layers.items()}


def similarities(loaded: LoadedModel) -> Tensor:
    return torch.tensor([s.layered["similarity"] for s in score_pairs(loaded, PAIRS, SIMILARITY)])


def test_every_module_keeps_its_norm_and_nothing_else_and_the_trained_weights_come_back() -> None:
    loaded = tiny_models.loaded_tiny("llama")
    before, scored = {k: v.clone() for k, v in loaded.model.state_dict().items()}, similarities(loaded)
    trained = updates(loaded)
    with random_adapter(loaded, 0, 3) as inside:
        assert inside is loaded
        drawn, changed = updates(loaded), similarities(loaded)
        now = loaded.model.state_dict()
        assert all(torch.equal(now[k], v) for k, v in before.items() if "lora_" not in k), "the base was touched"
    assert len(drawn) == 3 * 7
    for name, own in trained.items():
        assert drawn[name].norm() == pytest.approx(float(own.norm()), rel=1e-5)
        cosine = torch.nn.functional.cosine_similarity(drawn[name].flatten(), own.flatten(), dim=0)
        assert abs(float(cosine)) < 0.3, "it is not the trained update"
    assert len({round(float(v.norm()), 4) for v in drawn.values()}) == len(drawn), "norms of modules of their own"
    assert not torch.allclose(changed[:, 1:], scored[:, 1:], atol=1e-3)
    assert torch.equal(changed[:, 0], torch.ones(2)), "layer 0 is the placebo here too"
    assert all(torch.equal(v, before[k]) for k, v in loaded.model.state_dict().items())
    assert torch.equal(similarities(loaded), scored)


def test_a_draw_is_a_function_of_its_seed_and_survives_an_error() -> None:
    loaded = tiny_models.loaded_tiny("qwen2")
    before = updates(loaded)

    def drawn(*seed: int) -> dict[str, Tensor]:
        with random_adapter(loaded, *seed):
            return updates(loaded)

    first, again, other, third = drawn(0, 0), drawn(0, 0), drawn(0, 1), drawn(1, 0)
    for name in first:
        assert torch.equal(first[name], again[name])
        assert not torch.allclose(first[name], other[name])
        assert not torch.allclose(first[name], third[name])
    with pytest.raises(RuntimeError, match="gave out"), random_adapter(loaded, 0):
        raise RuntimeError("gave out")
    assert all(torch.equal(update, before[name]) for name, update in updates(loaded).items())


def test_the_norm_is_that_of_the_product() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(4, 30, generator=generator), torch.randn(20, 4, generator=generator)
    assert update_norm(a, b) == pytest.approx(float((b @ a).norm()), rel=1e-6)
    assert update_norm(a, torch.zeros(20, 4)) == 0.0


def test_an_adapter_that_has_learnt_nothing_stays_nothing() -> None:
    model = get_peft_model(tiny_models.tiny_model("llama"), LoraConfig(r=2, target_modules="all-linear"))
    loaded = tiny_models.wrap(model.eval())
    with random_adapter(loaded, 0):
        assert torch.equal(similarities(loaded), torch.ones(2, 4))


@pytest.mark.parametrize(
    "more",
    [{"use_dora": True}, {"trainable_token_indices": [3]}, {"lora_bias": True}, {"modules_to_save": ["embed_tokens"]}],
    ids=["DoRA", "trained token", "bias", "saved embeddings"],
)
def test_what_is_more_than_a_low_rank_update_is_refused_and_left_as_it_is(more: dict[str, object]) -> None:
    config = LoraConfig(r=2, target_modules=["q_proj", "up_proj"], **more)
    loaded = tiny_models.wrap(get_peft_model(tiny_models.tiny_model("llama", tied=False), config).eval())
    before = {k: v.clone() for k, v in loaded.model.state_dict().items()}
    refused = pytest.raises(ModelError, match=r"more than a low-rank update .*leave random_lora out")
    with refused, random_adapter(loaded, 0):
        pass
    assert all(torch.equal(v, before[k]) for k, v in loaded.model.state_dict().items())


def test_a_trained_head_is_no_part_of_any_state_and_stays() -> None:
    config = LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["lm_head"])
    model = get_peft_model(tiny_models.tiny_model("llama", tied=False), config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    loaded = tiny_models.wrap(model)
    with random_adapter(loaded, 0):
        assert not torch.allclose(similarities(loaded)[:, 1:], torch.ones(2, 3), atol=1e-4)
