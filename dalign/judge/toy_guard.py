"""The embedded world's learned judge: a sequence classifier over (prompt, response), fallible like any guard.

The conversation is encoded by ``Chat``, so turn markers inside a prompt or a response stay text (HarmBench #91).
P(unsafe) is read off the logits in one forward pass: no verdict can fail to parse.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from dalign.adapters import checkpoint_hash
from dalign.chat import Chat
from dalign.errors import ModelError
from dalign.judge.base import JudgeItem, harm_verdict, unscored
from dalign.judge.batches import Row, in_batches, left_padded
from dalign.models import DTYPES
from dalign.records import Part, Verdict
from dalign.specs.judge import ToyGuardSpec
from dalign.specs.model import ThinkSpec

_UNSAFE = 1


class ToyGuard:
    """P(unsafe) of class 1 of a two-class classifier in ``folder``. Raises ``ModelError`` if it cannot be loaded."""

    def __init__(self, spec: ToyGuardSpec, folder: Path) -> None:
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        try:
            tokenizer = AutoTokenizer.from_pretrained(folder)
            model = AutoModelForSequenceClassification.from_pretrained(
                folder, dtype=DTYPES[spec.dtype], use_safetensors=True
            )
        except (OSError, ValueError) as error:
            raise ModelError(f"judge {spec.name}: {folder} cannot be loaded: {str(error).splitlines()[0]}") from error
        if model.config.num_labels != 2:
            raise ModelError(f"judge {spec.name}: {folder} has {model.config.num_labels} classes, a guard has two")
        self.name = spec.name
        self.version = f"toy_guard-{checkpoint_hash(str(folder), None)}-{spec.dtype}-{spec.threshold}"
        self.spec = spec
        self.model: Any = model.eval()
        self.chat = Chat(tokenizer, ThinkSpec(where="none"))
        self.control_strings = self.chat.control_strings
        self.context = int(model.config.max_position_embeddings)
        self.pad = int(tokenizer.pad_token_id)

    def input_ids(self, item: JudgeItem, part: Part) -> tuple[int, ...]:
        """The guard's input: the prompt's turn, the judged part as the assistant's, and the turn's end."""
        prompt = self.chat.user_ids(item.prompt.text, think=False)
        return (*prompt, *self.chat.text_ids(item.text(part)), self.chat.end_id)

    def judge(self, items: Sequence[JudgeItem], part: Part) -> list[Verdict]:
        """Verdicts by P(unsafe) against the threshold; a pair longer than the guard's context is unscored."""
        ids = [self.input_ids(item, part) for item in items]
        fits = [i for i, row in enumerate(ids) if len(row) <= self.context]
        found = in_batches([ids[i] for i in fits], self._probabilities, budget=self.spec.token_budget)
        p_unsafe = dict(zip(fits, found, strict=True))
        return [
            harm_verdict(item, self.name, part, p_unsafe[i], self.spec.threshold)
            if i in p_unsafe
            else unscored(item, self.name, part, f"longer than the judge's context of {self.context} tokens")
            for i, item in enumerate(items)
        ]

    @torch.inference_mode()
    def _probabilities(self, rows: Sequence[Row]) -> list[float]:
        ids_PT, mask_PT, positions_PT = left_padded(rows, self.pad)
        logits_PC = self.model(input_ids=ids_PT, attention_mask=mask_PT, position_ids=positions_PT).logits
        return [float(p) for p in logits_PC.float().softmax(-1)[:, _UNSAFE]]
