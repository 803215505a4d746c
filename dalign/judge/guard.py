"""Guards that are language models (Llama Guard 3, WildGuard, HarmBench's classifier): a verdict without generating.

The prompt to the guard is built from ids, so control strings in prompts and responses stay text (HarmBench #91); the
reply is forced, and P(unsafe) is read off the logits at the verdict's position (Llama-Guard-3-8B discussion #21).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from dalign.adapters import checkpoint_hash
from dalign.chat import Chat
from dalign.encoding import Encoder, Piece
from dalign.errors import DataError
from dalign.judge.base import JudgeItem, harm_verdict, unscored
from dalign.judge.batches import Row, in_batches, left_padded
from dalign.judge.reply import Branch, Reply, joint
from dalign.models import load_checkpoint
from dalign.records import Part, Verdict, digest
from dalign.specs.judge import GuardSpec
from dalign.specs.model import ModelSpec, ThinkSpec

PROMPT, RESPONSE = "{prompt}", "{response}"


class Guard:
    """P(unsafe) by the guard of ``spec``. Raises ``ModelError`` if it cannot be loaded, ``DataError`` for a template
    file that is missing or lacks one of its two places."""

    def __init__(self, spec: GuardSpec) -> None:
        source = str(Path(spec.id).expanduser()) if Path(spec.id).expanduser().exists() else spec.id
        model = ModelSpec(
            name=spec.name,
            id=source,
            revision=spec.revision,
            dtype=spec.dtype,
            quantisation=spec.quantisation,
            device=spec.device,
        )
        template = _template(spec)
        loaded, self.tokenizer = load_checkpoint(model, source, spec.revision, role=f"judge {spec.name}")
        self.model: Any = loaded.eval()
        self.spec, self.name = spec, spec.name
        self.template = template
        self.chat = None if template else Chat(self.tokenizer, ThinkSpec(where="none"))
        self.encoder = self.chat.encoder if self.chat else Encoder(self.tokenizer, template=template or "")
        self.control_strings = self.encoder.control_strings
        self.reply = Reply(spec, self.encoder)
        self.context = int(self.model.config.max_position_embeddings)
        told = {k: v for k, v in spec.results().items() if k not in ("name", "id", "revision", "template")}
        self.version = f"guard-1-{digest(checkpoint_hash(source, spec.revision), told, template)}"

    def pieces(self, item: JudgeItem, part: Part) -> list[Piece]:
        """What the guard reads, before its reply: its template around the prompt and the judged part."""
        text = item.text(part)
        if self.chat is not None:
            turns = [{"role": "user", "content": item.prompt.text}, {"role": "assistant", "content": text}]
            return self.chat.prompt_pieces(turns)
        assert self.template is not None
        before, _, rest = self.template.partition(PROMPT)
        between, _, after = rest.partition(RESPONSE)
        return [(before, False), (item.prompt.text, True), (between, False), (text, True), (after, False)]

    def judge(self, items: Sequence[JudgeItem], part: Part) -> list[Verdict]:
        """Verdicts by P(unsafe) against the threshold, with the category of an unsafe one; a pair longer than the
        guard's context, or a guard that would rather say something else, is unscored."""
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


def _template(spec: GuardSpec) -> str | None:
    """The template file's text without the line break that ends a file. Raises ``DataError`` if it is missing or does
    not hold both places once, in order."""
    if spec.template is None:
        return None
    path = Path(spec.template).expanduser()
    try:
        text = path.read_text(encoding="utf-8").removesuffix("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"judge {spec.name}: {path}: cannot be read ({error})") from error
    if (text.count(PROMPT), text.count(RESPONSE)) != (1, 1) or text.index(PROMPT) > text.index(RESPONSE):
        raise DataError(f"judge {spec.name}: {path}: a template holds {PROMPT} and then {RESPONSE}, once each")
    return text
