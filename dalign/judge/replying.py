"""Judges that are language models and reply in fixed words: the reply is forced, and nothing is generated.

P(unsafe) is read off the logits at the verdict's position (Llama-Guard-3-8B discussion #21).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch

from dalign.encoding import Encoder, Piece
from dalign.judge.base import JudgeItem, harm_verdict, unscored
from dalign.judge.batches import Row, in_batches, left_padded
from dalign.judge.reply import Branch, Reply, joint
from dalign.records import Part, Verdict
from dalign.specs.judge import ReplySpec


class ReplyJudge(ABC):
    """What a guard and a self-judge share; ``pieces`` is what the model reads before its reply."""

    version: str

    def __init__(self, spec: ReplySpec, model: Any, tokenizer: Any, encoder: Encoder) -> None:
        self.spec, self.name = spec, spec.name
        self.model, self.tokenizer, self.encoder = model, tokenizer, encoder
        self.control_strings = encoder.control_strings
        self.reply = Reply(spec, encoder)
        self.context = int(model.config.get_text_config().max_position_embeddings)

    @abstractmethod
    def pieces(self, item: JudgeItem, part: Part) -> list[Piece]:
        """What the model reads, before its reply: the prompt, the judged part, and what is asked of them."""

    def judge(self, items: Sequence[JudgeItem], part: Part) -> list[Verdict]:
        """Verdicts by P(unsafe) against the threshold, with the category of an unsafe one; a pair longer than the
        model's context, or a model that would rather say something else, is unscored."""
        branches = [self.reply.branches(self.pieces(item, part)) for item in items]
        fits = [i for i, own in enumerate(branches) if max(len(b.row) for b in own) <= self.context]
        p_fork = iter(self._probabilities([branch for i in fits for branch in branches[i]]))
        read = {i: [next(p_fork) for _ in branches[i]] for i in fits}
        return [
            self._verdict(item, part, branches[i], read[i])
            if i in read
            else unscored(item, self.name, part, f"longer than the judge's context of {self.context} tokens")
            for i, item in enumerate(items)
        ]

    def _verdict(
        self, item: JudgeItem, part: Part, branches: Sequence[Branch], p_fork: Sequence[Sequence[Sequence[float]]]
    ) -> Verdict:
        p_unsafe, menu = joint(branches, p_fork)
        if not menu >= self.spec.min_menu:
            return unscored(item, self.name, part, "verdict off the menu: another reply is likelier")
        names = self.spec.categories
        odds = p_fork[0][-1] if names else ()
        category = names[max(range(len(names)), key=odds.__getitem__)] if names else ""
        return harm_verdict(item, self.name, part, p_unsafe, self.spec.threshold, category=category)

    def _probabilities(self, branches: Sequence[Branch]) -> list[list[list[float]]]:
        """``[branch][fork][way]``: the probability of each id that may follow there, over the whole vocabulary."""
        by_row = {branch.row: branch for branch in branches}
        rows = list(by_row)

        def read(batch: list[Row]) -> list[list[list[float]]]:
            return self._read([by_row[row] for row in batch])

        found = dict(zip(rows, in_batches(rows, read, budget=self.spec.token_budget), strict=True))
        return [found[branch.row] for branch in branches]

    @torch.inference_mode()
    def _read(self, branches: Sequence[Branch]) -> list[list[list[float]]]:
        device = next(self.model.parameters()).device
        ids_PT, mask_PT, positions_PT = left_padded([b.row for b in branches], self._pad, device)
        keep = max(fork.from_end for branch in branches for fork in branch.forks)
        logits_PKV = self.model(
            input_ids=ids_PT,
            attention_mask=mask_PT,
            position_ids=positions_PT,
            use_cache=False,
            logits_to_keep=keep + 1,
        ).logits
        return [
            [logits_KV[-1 - fork.from_end].float().softmax(-1)[list(fork.ids)].tolist() for fork in branch.forks]
            for logits_KV, branch in zip(logits_PKV, branches, strict=True)
        ]

    @property
    def _pad(self) -> int:
        pad = self.tokenizer.pad_token_id
        return int(pad) if pad is not None else 0  # masked, so any id will do
