"""Loading, the adapter's switch, and what is refused; on the embedded world's packaged base."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from dalign.errors import ModelError
from dalign.models import LoadedModel, load_model
from dalign.specs.model import LoraSpec, ModelSpec, ThinkSpec

IDS = torch.tensor([[5, 6, 7, 8, 9]])


def spec(**options: object) -> ModelSpec:
    return ModelSpec(**{"name": "toy", "id": "toy", "dtype": "float32", "device": "cpu", **options})


def logits(loaded: LoadedModel) -> torch.Tensor:
    with torch.no_grad():
        return loaded.model(input_ids=IDS).logits


def shaken(**lora: object) -> LoadedModel:
    """A model with a new LoRA whose weights are not zero."""
    torch.manual_seed(0)
    loaded = load_model(spec(lora=LoraSpec(r=4, alpha=8, **lora)), new_lora=True)
    for parameter in loaded.model.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=0.1)
    return loaded


@pytest.mark.parametrize(
    "lora",
    [{}, {"targets": ("q_proj", "v_proj"), "modules_to_save": ("lm_head",)}, {"trainable_tokens": ("<think>",)}],
    ids=["all-linear", "saved head", "trained token"],
)
def test_adapter_off_is_the_freshly_loaded_base_bit_for_bit(lora: dict[str, object]) -> None:
    loaded, fresh = shaken(**lora), load_model(spec())
    assert not torch.equal(logits(loaded), logits(fresh))
    with loaded.adapter_off():
        assert torch.equal(logits(loaded), logits(fresh))
    assert not torch.equal(logits(loaded), logits(fresh))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_adapter_off_is_the_freshly_loaded_nf4_base_bit_for_bit(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    options: dict[str, object] = {"quantisation": "nf4", "dtype": "bfloat16"}
    torch.manual_seed(0)
    loaded, fresh = load_model(spec(**options), new_lora=True), load_model(spec(**options))
    for parameter in loaded.model.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=0.1)
    kinds = {type(module).__name__ for module in loaded.model.modules()}
    assert "Linear4bit" in kinds, "the base is not quantised"
    assert not torch.equal(logits(loaded), logits(fresh))
    with loaded.adapter_off():
        assert torch.equal(logits(loaded), logits(fresh))


def test_the_switch_is_undone_after_an_error_and_nests() -> None:
    loaded = shaken()
    on = logits(loaded)
    with pytest.raises(RuntimeError), loaded.adapter_off():
        raise RuntimeError
    assert torch.equal(logits(loaded), on)
    with loaded.adapter_off():
        with loaded.adapter_off():
            pass
        assert not torch.equal(logits(loaded), on)


def test_a_saved_adapter_comes_back_and_names_itself(tmp_path: Path) -> None:
    loaded = shaken()
    loaded.save_adapter(tmp_path / "adapter")
    again = load_model(spec(), adapter=tmp_path / "adapter")
    assert torch.allclose(logits(again), logits(loaded), atol=1e-5)
    assert not any(p.requires_grad for p in again.model.parameters())
    assert any(
        p.requires_grad for p in load_model(spec(), adapter=tmp_path / "adapter", trainable=True).model.parameters()
    )
    assert again.adapter_hash is not None
    assert again.policy_hash != load_model(spec()).policy_hash
    assert again.base_hash == load_model(spec()).base_hash


def test_a_pickled_adapter_is_refused(tmp_path: Path) -> None:
    loaded = shaken()
    loaded.model.save_pretrained(str(tmp_path / "adapter"))
    (tmp_path / "adapter" / "adapter_model.safetensors").rename(tmp_path / "adapter" / "adapter_model.bin")
    with pytest.raises(ModelError, match="pickled"):
        load_model(spec(), adapter=tmp_path / "adapter")


def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_model(ModelSpec(name="x", id=str(tmp_path)))
    with pytest.raises(ModelError, match=r"model\.id='nobody/nothing'"):
        load_model(ModelSpec(name="x", id="nobody/nothing"))
    with pytest.raises(ModelError, match=r"^adapter=nobody/nothing"):
        load_model(spec(), adapter="nobody/nothing")
    with pytest.raises(ModelError, match=r"model\.lora\.targets"):
        load_model(spec(lora=LoraSpec(targets=("no_such_layer",))), new_lora=True)


def test_a_second_checkpoint_is_a_second_model() -> None:
    loaded = load_model(spec(base="toy"))
    assert loaded.base_model() is not loaded.model
    assert loaded.base_words == "toy, a second checkpoint: two models in memory"
    plain = load_model(spec())
    assert plain.base_model() is plain.model
    assert plain.base_words == "the same weights with the adapter off"


def test_a_second_checkpoint_names_the_base_and_not_the_policy(tmp_path: Path) -> None:
    other = load_model(spec()).model
    with torch.no_grad():
        other.get_input_embeddings().weight.mul_(2)
    other.save_pretrained(tmp_path / "other")
    load_model(spec()).tokenizer.save_pretrained(tmp_path / "other")
    plain, controlled = load_model(spec()), load_model(spec(base=str(tmp_path / "other")))
    assert controlled.policy_hash == plain.policy_hash
    assert controlled.base_hash != plain.base_hash
    swapped = load_model(spec(id=str(tmp_path / "other"), base="toy"))
    assert swapped.policy_hash != plain.policy_hash
    assert swapped.base_hash == plain.base_hash


def test_a_second_checkpoint_of_another_shape_is_refused(tmp_path: Path) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    source = load_model(spec())
    config = AutoConfig.from_pretrained(source.model.config._name_or_path)
    config.num_hidden_layers -= 1
    config.layer_types = None
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "shallow")
    source.tokenizer.save_pretrained(tmp_path / "shallow")
    with pytest.raises(ModelError, match=r"model\.base=.*shallow: \d+ layers of width"):
        load_model(spec(base=str(tmp_path / "shallow")))


def test_paper_error_10_a_special_closing_tag_survives_decoding() -> None:
    loaded = load_model(spec(think=ThinkSpec(open="<think>", close="</think>")))
    loaded.tokenizer.add_special_tokens({"additional_special_tokens": ["<think>", "</think>"]})
    close = loaded.tokenizer.convert_tokens_to_ids("</think>")
    word = loaded.chat.text_ids("the")[0]
    parts = loaded.chat.parse([word, close, word], think=True)
    assert (parts.reasoning, parts.answer, parts.closed) == ("the", "the", True)
