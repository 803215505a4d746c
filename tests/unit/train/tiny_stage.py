"""A checkpoint on disk with a word tokenizer, made-up traces, and the distillation stage on them, also as a command.

``python tiny_stage.py FOLDER CHECKPOINT STEP...`` starts the stage once for each STEP, in a process that kills itself
(SIGKILL) when the row of that step is logged, and once more to its end.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from dalign.records import Trace
from dalign.specs.run import RunSpec
from dalign.store import StageFolder
from dalign.train.fit import Outcome, distill

WORDS = [
    "bake",
    "bread",
    "with",
    "flour",
    "and",
    "salt",
    "sing",
    "a",
    "song",
    "paint",
    "the",
    "red",
    "barn",
    "how",
    "to",
    "feed",
    "grey",
    "geese",
    "today",
]
SPECIAL = ["<pad>", "<end>", "<user>", "<bot>", "<think>", "</think>", "<unk>"]
TEMPLATE = (
    "{% for m in messages %}{{ '<user>' if m.role == 'user' else '<bot>' }} {{ m.content }} <end> {% endfor %}"
    "{% if add_generation_prompt %}<bot> {% endif %}"
)


def make_checkpoint(folder: Path, *, layers: int = 2, sharpness: float = 1.0) -> Path:
    """A random float32 Llama of width 32 over ``WORDS``, saved as a Hugging Face folder. ``sharpness`` multiplies its
    head: at 1 its logits hardly differ, and no adapter below the head could make them."""
    vocabulary = {word: i for i, word in enumerate([*SPECIAL, *sorted(set(WORDS))])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words,
        pad_token="<pad>",
        eos_token="<end>",
        unk_token="<unk>",
        additional_special_tokens=["<user>", "<bot>", "<think>", "</think>"],
    )
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        eos_token_id=1,
        pad_token_id=0,
        bos_token_id=None,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        model.lm_head.weight *= sharpness
    model.save_pretrained(folder)
    return folder


def make_trace(i: int, *, reasoning: str | None = None, answer: str | None = None, **fields: Any) -> Trace:
    """Trace ``i``: a question of a few words, reasoning of 1 to 6 words and an answer of 1 to 4."""
    word = [WORDS[(i * 7 + k) % len(WORDS)] for k in range(12)]
    return Trace(
        prompt_id=f"p{i}",
        question=fields.pop("question", f"how to {word[0]} {word[1]} {WORDS[i % 5]}"),
        categories=(),
        reasoning=" ".join(word[: 1 + i % 6]) if reasoning is None else reasoning,
        answer=" ".join(word[6 : 7 + i % 4]) if answer is None else answer,
        teacher="t",
        finish_reason="stop",
        **fields,
    )


def make_traces(n: int) -> list[Trace]:
    return [make_trace(i) for i in range(n)]


def run_spec(checkpoint: Path, stage: Mapping[str, Any] | None = None, **model: Any) -> RunSpec:
    """A run that distils on the tiny checkpoint: 2 epochs of 24 examples, dropout 0.1, checkpoints every 2 steps."""
    lora = {"r": 4, "alpha": 8, "dropout": 0.1, **model.pop("lora", {})}
    options = {"lr": 1e-2, "batch": 8, "bucket": 8, "epochs": 2, "validation": 0.2, "micro_batch_tokens": 64}
    cadence = {"validate_every": 2, "checkpoint_every": 2}
    return RunSpec.model_validate(
        {
            "run": "r",
            "model": {
                "name": "tiny",
                "id": str(checkpoint),
                "dtype": "float32",
                "device": "cpu",
                "lora": lora,
                **model,
            },
            "teacher": {"name": "t"},
            "dataset": {"name": "d", "format": "jsonl"},
            "sampler": {"name": "s"},
            "attribution": {"name": "a"},
            "selector": {"name": "sel"},
            "judges": {},
            "benchmark": {},
            "stage": {"name": "distill", **options, **cadence, **(stage or {})},
            "trainer": {"name": "cpu", "accelerator": "cpu", "threads": 1},
            "logger": {"name": "csv"},
        }
    )


def open_folder(path: Path) -> StageFolder:
    return StageFolder(path, config={}, results={}, inputs={})


def run_stage(spec: RunSpec, path: Path, n: int = 24, folder_type: type[StageFolder] = StageFolder) -> Outcome:
    with folder_type(path, config={}, results={}, inputs={}) as folder:
        return distill(spec, make_traces(n), folder)


def metrics(path: Path) -> list[dict[str, Any]]:
    """The rows of metrics.jsonl without their timing."""
    rows = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k != "tokens_per_s"} for row in rows]


class KillingFolder(StageFolder):
    """Kills this process with SIGKILL when the training row of step ``kill_at`` has been written."""

    kill_at = 0

    def log(self, row: Mapping[str, float | int | str | None]) -> None:
        super().log(row)
        if row.get("step") == self.kill_at and "loss" in row:
            os.kill(os.getpid(), signal.SIGKILL)


def main(folder: Path, checkpoint: Path, steps: list[int]) -> None:
    for step in steps:
        child = os.fork()  # before any tensor is made: the imports, most of the time, are paid once
        if child == 0:
            KillingFolder.kill_at = step
            run_stage(run_spec(checkpoint), folder, folder_type=KillingFolder)
            os._exit(1)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status) or os.WTERMSIG(status) != signal.SIGKILL:
            raise SystemExit(f"the stage was not killed at step {step}: status {status}")
        if (folder / "adapter").exists():
            raise SystemExit(f"an adapter stands after the kill at step {step}")
    run_stage(run_spec(checkpoint), folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), [int(step) for step in sys.argv[3:]])
