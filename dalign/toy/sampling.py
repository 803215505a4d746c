"""Drawing answers from the kingdom's small models for its own measurements, in batches with a cache."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from dalign.toy.markup import THOUGHT

BATCH = 140


def sample_texts(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    prompts: Sequence[str],
    *,
    seed: int,
    temperature: float = 0.7,
    max_new_tokens: int = 64,
) -> list[str]:
    """One completion a prompt (rendered text with its markers), without the end marker, in the prompts' order.

    A temperature of 0 takes the likeliest token. A completion that did not end within ``max_new_tokens`` is cut there.
    """
    generator = torch.Generator().manual_seed(seed)
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i].split()))
    found: dict[int, str] = {}
    for start in range(0, len(order), BATCH):
        chosen = order[start : start + BATCH]
        ids = _complete(model, tokenizer, [prompts[i] for i in chosen], generator, temperature, max_new_tokens)
        found.update(zip(chosen, tokenizer.batch_decode(ids, skip_special_tokens=True), strict=True))
    return [found[i] for i in range(len(prompts))]


@torch.inference_mode()
def _complete(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    prompts: list[str],
    generator: torch.Generator,
    temperature: float,
    max_new_tokens: int,
) -> list[list[int]]:
    encoded = tokenizer(prompts, return_tensors="pt", padding=True, padding_side="left")
    step, mask = encoded["input_ids"], encoded["attention_mask"]
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    cache, drawn = None, []
    alive = torch.ones(len(prompts), dtype=torch.bool)
    for _ in range(max_new_tokens):
        out = model(
            input_ids=step,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        cache = out.past_key_values
        token = _draw(out.logits[:, -1].float(), generator, temperature)
        token[~alive] = tokenizer.eos_token_id
        drawn.append(token)
        alive &= token != tokenizer.eos_token_id
        if not alive.any():
            break
        step, positions = token[:, None], positions[:, -1:] + 1
        mask = torch.cat([mask, torch.ones_like(step)], dim=1)
    return [list(row) for row in torch.stack(drawn, dim=1).tolist()]


def _draw(logits: Tensor, generator: torch.Generator, temperature: float) -> Tensor:
    if temperature == 0:
        return logits.argmax(-1)
    return torch.multinomial((logits / temperature).softmax(-1), 1, generator=generator)[:, 0]


def split_reasoning(text: str) -> tuple[str, str]:
    """Reasoning and answer: the text before and after the first closing tag; without one it is all reasoning."""
    reasoning, _, answer = f" {text} ".partition(f" {THOUGHT} ")
    return reasoning.strip(), answer.strip()
