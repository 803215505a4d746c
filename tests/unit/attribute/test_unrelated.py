"""A student beside another checkpoint: its own states against that one's, and what does not compare is refused."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerFast

from dalign.attribute import Pair, score_pairs
from dalign.attribute.unrelated import against, source_of
from dalign.errors import ModelError
from dalign.models import LoadedModel, load_model
from dalign.specs.model import ModelSpec
from dalign.specs.run import PathsSpec
from dalign.specs.sampling import AttributionSpec
from dalign.toy.assets import PACKAGED

BASE = PACKAGED / "seed0" / "base"
IDS = Pair((5, 6, 7), (8, 9, 10))


def saved(folder: Path, seed: int = 3, **changes: Any) -> Path:
    """The embedded world's base with other weights, which nothing has trained; ``changes`` are of its shape."""
    torch.manual_seed(seed)
    LlamaForCausalLM(AutoConfig.from_pretrained(BASE, **changes)).save_pretrained(folder)
    AutoTokenizer.from_pretrained(BASE).save_pretrained(folder)
    return folder


def student() -> LoadedModel:
    torch.manual_seed(0)
    loaded = load_model(ModelSpec(name="toy", id="toy", dtype="float32", device="cpu"), new_lora=True)
    for name, parameter in loaded.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return loaded


def beside(loaded: LoadedModel, name: str | Path) -> LoadedModel:
    return against(loaded, "stage.unrelated", str(name), paths=PathsSpec(), world_seed=0)


def states(model: Any) -> torch.Tensor:
    with torch.no_grad():
        out = model(input_ids=torch.tensor([IDS.prompt_ids + IDS.response_ids]), output_hidden_states=True)
    return torch.stack([h[0, -1].float() for h in out.hidden_states])


def test_the_students_states_are_compared_with_the_other_checkpoints(tmp_path: Path) -> None:
    loaded, folder = student(), saved(tmp_path / "other")
    compared = beside(loaded, folder)
    (found,) = score_pairs(compared, [IDS], AttributionSpec(name="similarity", flat=()))
    ours = states(loaded.model)
    theirs = states(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval())
    wanted = torch.nn.functional.cosine_similarity(ours, theirs, dim=-1)
    assert torch.tensor(found.layered["similarity"]) == pytest.approx(wanted, abs=1e-5)
    assert abs(found.layered["similarity"][0]) < 0.9, "embeddings of another origin: layer 0 is no placebo here"
    (own,) = score_pairs(loaded, [IDS], AttributionSpec(name="similarity", flat=()))
    assert own.layered["similarity"][0] == 1.0
    assert loaded.second is None
    assert compared.base_hash != loaded.base_hash
    assert compared.base_words.startswith(f"{folder}, a second checkpoint")


def test_the_embedded_base_itself_gives_the_students_own_similarity() -> None:
    loaded = student()
    (found,) = score_pairs(beside(loaded, "toy"), [IDS], AttributionSpec(name="similarity", flat=()))
    (own,) = score_pairs(loaded, [IDS], AttributionSpec(name="similarity", flat=()))
    assert found.layered["similarity"] == pytest.approx(own.layered["similarity"], abs=1e-6)


@pytest.mark.parametrize(
    ("shape", "told"),
    [
        ({"num_hidden_layers": 2}, "2 layers of width 128, and the student has 6 of 128"),
        ({"hidden_size": 64}, "of width 64"),
    ],
    ids=["depth", "width"],
)
def test_another_shape_is_refused(tmp_path: Path, shape: dict[str, int], told: str) -> None:
    folder = saved(tmp_path / "other", **shape)
    with pytest.raises(ModelError, match=rf"stage.unrelated={folder}: .*{told}"):
        beside(student(), folder)


def test_another_vocabulary_is_refused(tmp_path: Path) -> None:
    loaded = student()
    swapped = saved(tmp_path / "swapped")
    text = (swapped / "tokenizer.json").read_text()
    words = [w for w, i in loaded.tokenizer.get_vocab().items() if i in (40, 41)]
    for old, new in zip(words, reversed(words), strict=True):
        text = text.replace(
            f'"{old}": {loaded.tokenizer.get_vocab()[old]}', f'"{old}": {loaded.tokenizer.get_vocab()[new]}'
        )
    (swapped / "tokenizer.json").write_text(text)
    assert PreTrainedTokenizerFast.from_pretrained(swapped).get_vocab() != loaded.tokenizer.get_vocab()
    with pytest.raises(ModelError, match=r"another vocabulary, 2 of the student's \d+ tokens have another id there"):
        beside(loaded, swapped)
    small = saved(tmp_path / "small", vocab_size=30)
    with pytest.raises(ModelError, match=r"another vocabulary, 0 of .*\(30 rows\)"):
        beside(loaded, small)


def test_a_checkpoint_that_is_not_there_is_told_by_its_option(tmp_path: Path) -> None:
    folder = saved(tmp_path / "other")
    shutil.rmtree(folder)
    with pytest.raises(ModelError, match=r"stage.unrelated='.*other': no such file or folder"):
        beside(student(), folder)


def test_a_hub_id_may_name_its_revision() -> None:
    assert source_of("owner/name@abc", paths=PathsSpec(), world_seed=0) == ("owner/name", "abc")
    assert source_of("owner/name", paths=PathsSpec(), world_seed=0) == ("owner/name", None)
