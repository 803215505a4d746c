"""The README's library code, as it stands there, on a model and adapter that ``dalign`` had no part in."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

ROOT = Path(__file__).parents[1]
TEMPLATE = (
    "{% for m in messages %}{{ m['role'] }} {{ m['content'] }} [end] {% endfor %}"
    "{% if add_generation_prompt %}assistant {% endif %}"
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``base`` and ``adapter``, made by transformers, tokenizers and peft alone."""
    folder = tmp_path_factory.mktemp("others")
    # So few words that a random model closes its reasoning and ends its turn now and then.
    words = ["[pad]", "[end]", "<think>", "</think>", "?", "user", "assistant"]
    words += ["what", "is", "a", "fair", "price", "for", "horse"]
    plain = Tokenizer(WordLevel({word: i for i, word in enumerate(words)}, unk_token="?"))
    plain.pre_tokenizer = WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=plain, eos_token="[end]", pad_token="[pad]", unk_token="?", chat_template=TEMPLATE
    )
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 12, "num_attention_heads": 4}
    ends = {"bos_token_id": None, "eos_token_id": 1, "pad_token_id": 0}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), max_position_embeddings=2048, **sizes, **ends))
    model.save_pretrained(folder / "base")
    tokenizer.save_pretrained(folder / "base")
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"))
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            nn.init.normal_(parameter, std=0.2)
    adapted.save_pretrained(str(folder / "adapter"))
    return folder


def run(code: str, place: Path) -> subprocess.CompletedProcess[str]:
    told = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=place, env=told, capture_output=True, text=True, check=False
    )


def readme_code() -> str:
    (code,) = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), re.M | re.S)
    return str(code).replace("path/to/", "")


def test_the_readmes_lines_run_as_they_stand(place: Path) -> None:
    """Some of the random model's answers are empty and some unfinished, as any model's may be."""
    told = "print(json.dumps([[s.layered['similarity'] for s in scores], [r.finished for r in responses], best.index]))"
    done = run(f"import json\n{readme_code()}\n{told}", place)
    assert done.returncode == 0, done.stderr
    values, finished, best = json.loads(done.stdout.splitlines()[-1])
    assert len(values) == 8
    assert any(finished)
    assert not all(finished)
    eligible = [value for (value,), ended in zip(values, finished, strict=True) if ended]
    assert values[best][0] == min(eligible)
    assert len(set(eligible)) > 1
