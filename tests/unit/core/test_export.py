"""`dalign export`: what others load is the student, to the last logit; and what is refused leaves nothing behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from made_adapters import ADDED, published
from peft import PeftModel
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from dalign import exporting
from dalign.adapters import checkpoint_hash
from dalign.commands import COMMANDS
from dalign.config import check
from dalign.errors import ArtifactError, ConfigError, ModelError
from dalign.models import load_model
from dalign.policies import load_policy
from dalign.specs.model import LoraSpec, ModelSpec
from dalign.toy.assets import toy_models

pytestmark = pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`")
TOY = toy_models(0) / "base"
MODEL = ("model=hf", f"model.id={TOY}", "model.dtype=float32", "model.device=cpu")


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """A LoRA on the embedded world's base, in a finished stage's place: ``runs/mine/distill/adapter``."""
    torch.manual_seed(0)
    loaded = load_model(ModelSpec(name="toy", id="toy", dtype="float32", lora=LoraSpec(r=4, alpha=8)), new_lora=True)
    for parameter in loaded.model.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=0.1)
    stage = tmp_path / "runs" / "mine" / "distill"
    loaded.save_adapter(stage / "adapter")
    (stage / "inputs.json").write_text(json.dumps({"inputs": {"base": checkpoint_hash(str(TOY), None)}}))
    (stage / "manifest.json").write_text("{}")
    (stage / "config.yaml").write_text(yaml.safe_dump({"model": loaded.spec.model_dump(mode="json"), "world_seed": 0}))
    return stage / "adapter"


def export(student: Path | str, *words: str, out: Path | str = "out") -> int:
    return COMMANDS["export"]([str(student), "--out", str(out), "trainer.threads=1", *words])


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=torch.tensor([[5, 6, 7, 8, 9]])).logits
    return found


def loaded(folder: Path | str = "out") -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def test_a_run_is_exported_by_its_name_with_the_logits_of_its_student(adapter: Path) -> None:
    assert export("mine") == 0
    student = PeftModel.from_pretrained(loaded(TOY), str(adapter))
    torch.testing.assert_close(logits(loaded()), logits(student), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(logits(loaded()), logits(loaded(TOY)), atol=0.1)
    assert not [name for name, _ in loaded().named_modules() if "lora" in name]
    assert export(adapter.parents[1], out="by_folder") == 0
    assert torch.equal(logits(loaded("by_folder")), logits(loaded()))


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("more", [(), ("lm_head",), ("lm_head", "embed_tokens")], ids=["lora", "head", "both"])
def test_a_published_adapter_with_tokens_of_its_own(tied: bool, more: tuple[str, ...], tmp_path: Path) -> None:
    base = AutoModelForCausalLM.from_pretrained(TOY, dtype=torch.float32)
    if not tied:
        base.config.tie_word_embeddings = False
        base.lm_head.weight = nn.Parameter(torch.randn_like(base.lm_head.weight) * 0.1)
    base.save_pretrained(tmp_path / "base")
    AutoTokenizer.from_pretrained(TOY).save_pretrained(tmp_path / "base")
    theirs = published(tmp_path / "base", tmp_path / "adapter", embeddings=True, more=more)
    assert export(tmp_path / "adapter", *MODEL, f"model.id={tmp_path / 'base'}") == 0
    torch.testing.assert_close(logits(loaded()), logits(theirs), atol=1e-3, rtol=1e-3)
    assert logits(loaded()).shape[-1] == len(base.get_input_embeddings().weight) + len(ADDED)
    assert AutoTokenizer.from_pretrained("out").convert_tokens_to_ids(ADDED[1]) == base.vocab_size + 1


def test_the_template_opens_the_reasoning_for_whoever_asks(adapter: Path, tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "where is the lantern kept ?"}]
    for where, opened in (("prompt", True), ("learnt", False), ("none", False)):
        export(adapter, f"model.think.where={where}", out=where)
        chat = load_model(ModelSpec(name="toy", id="toy", think={"where": where})).chat
        told = AutoTokenizer.from_pretrained(where).apply_chat_template(
            messages, tokenize=True, add_generation_prompt=True, return_dict=False
        )
        assert tuple(told) == chat.user_ids(messages[0]["content"], think=True)
        assert (told[-1] == chat.tokenizer.convert_tokens_to_ids("<think>")) is opened
        (spec,) = check("evaluate", ["model=toy", f"model.id={tmp_path / where}", f"model.think.where={where}"])
        assert load_policy(spec, "base").think is opened, "such a base reasons, and reasoning left open is no answer"
    whole = AutoTokenizer.from_pretrained("prompt").apply_chat_template(
        [*messages, {"role": "assistant", "content": "in the cellar"}], tokenize=False
    )
    assert "<think>" not in whole


def test_a_precision_of_its_own(adapter: Path) -> None:
    assert export("mine", "--dtype", "bfloat16") == 0
    assert json.loads(Path("out/config.json").read_text())["dtype"] == "bfloat16"
    assert AutoModelForCausalLM.from_pretrained("out", dtype="auto").dtype == torch.bfloat16
    export("mine", out="exact")
    wanted = {name: p.to(torch.bfloat16).float() for name, p in loaded("exact").named_parameters()}
    assert all(torch.equal(p, wanted[name]) for name, p in loaded().named_parameters()), "rounded once"


def test_a_second_export_changes_nothing_and_another_one_is_refused(adapter: Path) -> None:
    export("mine")
    before = {path: path.stat().st_mtime_ns for path in Path("out").iterdir()}
    assert export("mine") == 0
    assert export(adapter) == 0, "the same student by another name"
    assert {path: path.stat().st_mtime_ns for path in Path("out").iterdir()} == before
    with pytest.raises(ArtifactError, match=r"--out out: holds another export(?s:.*)dtype: 'float32' -> 'float16'"):
        export("mine", "--dtype", "float16")
    with pytest.raises(ArtifactError, match="--out runs: stands already and is no export"):
        export("mine", out="runs")
    assert {path: path.stat().st_mtime_ns for path in Path("out").iterdir()} == before


def test_a_checkpoint_that_is_not_the_student_gets_no_name(adapter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = exporting._write

    def torn(student: Any, folder: Path, dtype: torch.dtype) -> None:
        write(student, folder, dtype)
        AutoModelForCausalLM.from_pretrained(TOY).save_pretrained(folder)

    monkeypatch.setattr(exporting, "_write", torn)
    with pytest.raises(ModelError, match=r"probabilities are up to .* more than float32 rounds; nothing"):
        export("mine")
    assert [path.name for path in Path().iterdir()] == ["runs"]


@pytest.mark.parametrize(
    ("student", "words", "error", "told"),
    [
        ("mime", (), ArtifactError, "mime: neither a run below runs that has a distill/, nor an adapter's folder"),
        ("mine", ("world_seed=1",), ConfigError, "^world_seed=1: the run says .*: runs/mine/distill/adapter$"),
        ("mine", ("model=hf", "model.id=a/b"), ConfigError, "^model=hf, model.id=a/b: the run says what its model is"),
        ("runs/mine/distill/adapter", ("model.quantisation=nf4",), ModelError, "quantisation=nf4: .*side by side"),
        ("./nowhere", (), ModelError, "^adapter=./nowhere: no such folder"),
    ],
)
def test_what_cannot_be_exported_is_told(
    student: str, words: tuple[str, ...], error: type[Exception], told: str, adapter: Path
) -> None:
    with pytest.raises(error, match=told):
        export(student, *words)
    assert not Path("out").exists()


def test_a_run_that_is_unfinished_damaged_or_of_another_base_is_told(adapter: Path) -> None:
    stage = adapter.parent
    (stage / "inputs.json").write_text(json.dumps({"inputs": {"base": "another"}}))
    with pytest.raises(ArtifactError, match="this adapter was trained on base another"):
        export("mine")
    (stage / "config.yaml").write_text("model: {name: toy}\nworld_seed: 0\n")
    with pytest.raises(ArtifactError, match=r"config.yaml: does not tell the run's model .*give model="):
        export("mine")
    (stage / "manifest.json").unlink()
    with pytest.raises(ArtifactError, match="no finished adapter; run stage=distill"):
        export("mine")
    assert not Path("out").exists()
