"""Reward models: sequence classifiers with one logit over a conversation; the logit is the reward, more is better.

The conversation is encoded by ``Chat``, so control strings inside a prompt or a response stay text.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from dalign.adapters import checkpoint_hash, reason_of
from dalign.chat import Chat
from dalign.errors import ModelError
from dalign.judge.base import JudgeItem, unscored
from dalign.judge.batches import Row, in_batches, left_padded
from dalign.models import DTYPES
from dalign.records import Part, Verdict
from dalign.specs.judge import RewardSpec
from dalign.specs.model import ThinkSpec


class RewardModel:
    """The reward of (prompt, response) by the model of ``spec``. Raises ``ModelError`` if it cannot be loaded, or has
    more than one logit."""

    def __init__(self, spec: RewardSpec) -> None:
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        source = str(Path(spec.id).expanduser()) if Path(spec.id).expanduser().exists() else spec.id
        try:
            tokenizer = AutoTokenizer.from_pretrained(source, revision=spec.revision)
            model = AutoModelForSequenceClassification.from_pretrained(
                source, revision=spec.revision, dtype=DTYPES[spec.dtype], use_safetensors=True
            )
        except (OSError, ValueError) as error:
            raise ModelError(f"judge {spec.name}: {source} cannot be loaded: {reason_of(error)}") from error
        if model.config.num_labels != 1:
            raise ModelError(
                f"judge {spec.name}: {source} has {model.config.num_labels} logits, a reward model has one"
            )
        cuda = torch.cuda.is_available() if spec.device == "auto" else spec.device != "cpu"
        self.model: Any = model.eval().to("cuda" if cuda else "cpu")
        self.spec, self.name = spec, spec.name
        self.chat = Chat(tokenizer, ThinkSpec(where="none"))
        self.control_strings = self.chat.control_strings
        self.context = int(model.config.get_text_config().max_position_embeddings)
        self.version = f"reward-1-{checkpoint_hash(source, spec.revision)}-{spec.dtype}"

    def input_ids(self, item: JudgeItem, part: Part) -> tuple[int, ...]:
        """The prompt's turn and the judged part as the assistant's, whole."""
        turns = [{"role": "user", "content": item.prompt.text}, {"role": "assistant", "content": item.text(part)}]
        return self.chat.encoder.encode(self.chat.turn_pieces(turns))

    def judge(self, items: Sequence[JudgeItem], part: Part) -> list[Verdict]:
        """``graded`` with the reward as score; a pair longer than the model's context is unscored."""
        ids = [self.input_ids(item, part) for item in items]
        fits = [i for i, row in enumerate(ids) if len(row) <= self.context]
        found = in_batches([ids[i] for i in fits], self._rewards, budget=self.spec.token_budget)
        reward = dict(zip(fits, found, strict=True))
        return [self._verdict(item, part, reward.get(i)) for i, item in enumerate(items)]

    def _verdict(self, item: JudgeItem, part: Part, reward: float | None) -> Verdict:
        if reward is None:
            return unscored(item, self.name, part, f"longer than the judge's context of {self.context} tokens")
        if not math.isfinite(reward):
            return unscored(item, self.name, part, f"the reward is {reward}")
        return Verdict(item.sample_id, self.name, part, "graded", score=reward)

    @torch.inference_mode()
    def _rewards(self, rows: Sequence[Row]) -> list[float]:
        last = {row[-1] for row in rows}
        pad = next(i for i in range(len(last) + 1) if i not in last)  # the logit is read at the last id that is not pad
        self.model.config.get_text_config().pad_token_id = self.model.config.pad_token_id = pad
        ids_PT, mask_PT, positions_PT = left_padded(rows, pad, self.model.device)
        logits_P1 = self.model(input_ids=ids_PT, attention_mask=mask_PT, position_ids=positions_PT).logits
        return [float(reward) for reward in logits_P1[:, 0].float()]
