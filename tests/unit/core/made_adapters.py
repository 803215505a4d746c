"""Adapters as others publish them: made by transformers and peft alone, with two tokens of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer

ADDED = ["the law", "no law speaks"]


def published(base: Path, folder: Path, *, embeddings: bool, more: tuple[str, ...] = ("lm_head",)) -> Any:
    """An adapter with two added tokens as others make it, by transformers and peft alone."""
    torch.manual_seed(0)
    model, tokenizer = (
        AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32),
        AutoTokenizer.from_pretrained(base),
    )
    tokenizer.add_tokens(ADDED)
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    config = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], modules_to_save=list(more), task_type="CAUSAL_LM")
    adapted = get_peft_model(model, config)
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=0.1)
    adapted.save_pretrained(str(folder), save_embedding_layers=embeddings)
    tokenizer.save_pretrained(str(folder))
    return adapted.eval()
