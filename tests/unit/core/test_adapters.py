"""Adapters of the published shape: added tokens over a resized vocabulary, a trained head, embeddings or none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from made_adapters import ADDED, published
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from dalign.attribute import Pair, score_pairs
from dalign.errors import ModelError
from dalign.models import LoadedModel, load_model
from dalign.specs.model import ModelSpec
from dalign.specs.sampling import AttributionSpec
from dalign.toy.assets import toy_models

pytestmark = pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`")
TOY = toy_models(0) / "base"
IDS = torch.tensor([[5, 6, 7, 8, 9]])


@pytest.fixture(params=[True, False], ids=["tied", "untied"])
def base(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A base checkpoint with a head of its own or without."""
    if request.param:
        return TOY
    model = AutoModelForCausalLM.from_pretrained(TOY, dtype=torch.float32)
    model.config.tie_word_embeddings = False
    model.lm_head.weight = nn.Parameter(torch.randn_like(model.lm_head.weight) * 0.1)
    model.save_pretrained(tmp_path / "base")
    AutoTokenizer.from_pretrained(TOY).save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def spec(base: Path) -> ModelSpec:
    return ModelSpec(name="x", id=str(base), dtype="float32", device="cpu")


def logits(model: Any, ids: torch.Tensor = IDS) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=ids).logits


def own_rows(loaded: LoadedModel) -> torch.Tensor:
    """The base's embeddings of the added ids."""
    with loaded.adapter_off(), torch.no_grad():
        ids = torch.arange(loaded.base_vocab, loaded.vocab)
        return loaded.model.get_base_model().get_input_embeddings()(ids)


@pytest.mark.parametrize("embeddings", [True, False], ids=["embeddings stored", "none stored"])
def test_it_loads_and_its_base_is_the_bare_base_bit_for_bit(base: Path, embeddings: bool, tmp_path: Path) -> None:
    theirs = published(base, tmp_path / "adapter", embeddings=embeddings)
    loaded, bare = load_model(spec(base), adapter=tmp_path / "adapter"), load_model(spec(base))
    vocab = bare.vocab
    assert (loaded.vocab, loaded.base_vocab) == (vocab + 2, vocab)
    torch.testing.assert_close(logits(loaded.model), logits(theirs))
    with loaded.adapter_off():
        assert torch.equal(logits(loaded.model)[..., :vocab], logits(bare.model))
    assert loaded.base_hash != bare.base_hash


def test_added_rows_are_the_adapters_where_it_stores_them(base: Path, tmp_path: Path) -> None:
    theirs = published(base, tmp_path / "adapter", embeddings=True)
    loaded = load_model(spec(base), adapter=tmp_path / "adapter")
    torch.testing.assert_close(own_rows(loaded), theirs.get_input_embeddings().weight[-2:])
    assert loaded.added == "the adapter's embeddings"


def test_added_rows_are_the_mean_of_their_words_where_it_does_not(base: Path, tmp_path: Path) -> None:
    published(base, tmp_path / "adapter", embeddings=False)
    loaded, bare = load_model(spec(base), adapter=tmp_path / "adapter"), load_model(spec(base))
    table = bare.model.get_input_embeddings().weight
    words = [bare.tokenizer(text)["input_ids"] for text in ADDED]
    assert [len(ids) for ids in words] == [2, 3]
    torch.testing.assert_close(own_rows(loaded), torch.stack([table[ids].mean(0) for ids in words]))
    assert loaded.added == "the mean of their sub-words' embeddings"
    assert loaded.tokenizer.convert_tokens_to_ids(ADDED) == [bare.vocab, bare.vocab + 1]


def test_trained_embeddings_stay_the_students(base: Path, tmp_path: Path) -> None:
    theirs = published(base, tmp_path / "adapter", embeddings=True, more=("lm_head", "embed_tokens"))
    loaded, bare = load_model(spec(base), adapter=tmp_path / "adapter"), load_model(spec(base))
    torch.testing.assert_close(logits(loaded.model), logits(theirs))
    with loaded.adapter_off():
        assert torch.equal(logits(loaded.model)[..., : bare.vocab], logits(bare.model))


def test_a_pair_with_added_tokens_is_scored_and_compared_over_the_bases_own_ids(base: Path, tmp_path: Path) -> None:
    published(base, tmp_path / "adapter", embeddings=False)
    loaded = load_model(spec(base), adapter=tmp_path / "adapter")
    added = loaded.base_vocab
    pair = Pair((5, 6, added), (7, 8, added + 1, 9))
    (found,) = score_pairs(loaded, [pair], AttributionSpec(name="all"))
    assert not found.error
    ids = torch.tensor([pair.prompt_ids + pair.response_ids])
    with loaded.adapter_off():
        base_logits = logits(loaded.model, ids)[0, 2:-1, :added]
    p = logits(loaded.model, ids)[0, 2:-1, :added].log_softmax(-1)
    q = base_logits.log_softmax(-1)
    assert found.flat["kl"] == pytest.approx((p.exp() * (p - q)).sum(-1).mean().item(), rel=1e-4)
    known = [0, 1, 3]
    picked = q[known, [pair.response_ids[i] for i in known]]
    assert found.flat["ppl_base"] == pytest.approx((-picked.mean()).exp().item(), rel=1e-4)


def test_a_second_checkpoint_reads_the_added_tokens_too(tmp_path: Path) -> None:
    published(TOY, tmp_path / "adapter", embeddings=False)
    paired = load_model(spec(TOY).model_copy(update={"base": str(TOY)}), adapter=tmp_path / "adapter")
    assert paired.base_words.endswith(
        "two models in memory; its rows of the adapter's own tokens are " + str(paired.added)
    )
    alone = load_model(spec(TOY), adapter=tmp_path / "adapter")
    ids = [5, 6, alone.vocab - 1]
    asked = AttributionSpec(name="t", layered=("similarity",), flat=("kl",))
    (found,), (same,) = (score_pairs(m, [Pair((7, 8), tuple(ids), None)], asked) for m in (paired, alone))
    assert found.layered["similarity"] == pytest.approx(same.layered["similarity"], abs=1e-5)
    assert found.flat["kl"] == pytest.approx(same.flat["kl"], abs=1e-5)


def test_a_vocabulary_that_shrank_is_followed(tmp_path: Path) -> None:
    """Qwen2.5's embeddings have more rows than its tokenizer has ids; resizing to the tokenizer cuts them."""
    padded = AutoModelForCausalLM.from_pretrained(TOY, dtype=torch.float32)
    padded.resize_token_embeddings(rows := padded.vocab_size + 40, mean_resizing=False)
    padded.save_pretrained(tmp_path / "base")
    AutoTokenizer.from_pretrained(TOY).save_pretrained(tmp_path / "base")
    theirs = published(tmp_path / "base", tmp_path / "adapter", embeddings=False)
    loaded, bare = (
        load_model(spec(tmp_path / "base"), adapter=tmp_path / "adapter"),
        load_model(spec(tmp_path / "base")),
    )
    assert (bare.vocab, loaded.vocab, loaded.base_vocab) == (rows, rows - 38, rows - 38)
    assert loaded.added is None
    torch.testing.assert_close(logits(loaded.model), logits(theirs))
    with loaded.adapter_off():
        assert torch.equal(logits(loaded.model), logits(bare.model)[..., : rows - 38])


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"r": 8}, r"PeftModelForCausalLM: size mismatch for .*lora_A.*torch\.Size\(\[4, .*torch\.Size\(\[8, "),
        ({"peft_type": "NOPE"}, "its adapter_config.json asks for what peft does not know: 'NOPE'"),
        ({"peft_type": None}, "its adapter_config.json asks for what peft does not know"),
        ({"r": "x"}, "its adapter_config.json asks for what peft does not know"),
    ],
)
def test_an_adapter_that_does_not_fit_is_told_with_the_reason(
    changed: dict[str, Any], told: str, tmp_path: Path
) -> None:
    published(TOY, tmp_path / "adapter", embeddings=False)
    config = tmp_path / "adapter" / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), **changed}))
    with pytest.raises(ModelError, match=rf"^adapter={tmp_path}/adapter: .*{told}") as caught:
        load_model(spec(TOY), adapter=tmp_path / "adapter")
    assert "\n" not in str(caught.value)


def test_a_torn_adapter_is_told(tmp_path: Path) -> None:
    published(TOY, tmp_path / "adapter", embeddings=False)
    weights = tmp_path / "adapter" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelError, match="cannot be read"):
        load_model(spec(TOY), adapter=tmp_path / "adapter")
