"""Tiny models with random weights (Qwen2, Llama, Gemma 3 with sliding windows), bare or with a random LoRA on them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from dalign.models import LoadedModel
from dalign.specs.model import ModelSpec

torch.set_num_threads(1)  # sums of this size gain nothing from a second one, and test workers share the cores

VOCAB, WIDTH, CONTEXT, EOS, PAD = 97, 32, 256, 1, 0
KINDS = ("qwen2", "llama", "gemma3")


def tiny_model(kind: str, *, layers: int = 3, seed: int = 0, tied: bool = True, context: int = CONTEXT) -> Any:
    """A float32 causal LM with weights large enough that its distributions are far from uniform."""
    torch.manual_seed(seed)
    common: dict[str, Any] = {
        "vocab_size": VOCAB,
        "hidden_size": WIDTH,
        "intermediate_size": 48,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": context,
        "tie_word_embeddings": tied,
        "eos_token_id": EOS,
        "pad_token_id": PAD,
        "bos_token_id": None,
    }
    if kind == "qwen2":
        model: Any = Qwen2ForCausalLM(Qwen2Config(**common))
    elif kind == "llama":
        model = LlamaForCausalLM(LlamaConfig(**common))
    else:
        windows = ["sliding_attention", "full_attention", "sliding_attention", "full_attention"][:layers]
        config = Gemma3TextConfig(**common, head_dim=8, sliding_window=8, layer_types=windows)
        model = Gemma3ForCausalLM(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" not in name:
                parameter.copy_(torch.randn_like(parameter) * 0.2)
    return model.eval()


def with_lora(model: Any, *, seed: int = 1, scale: float = 0.15, **options: Any) -> Any:
    """The model under a LoRA whose weights are random, so that it does something."""
    torch.manual_seed(seed)
    config = LoraConfig(
        **{"r": 4, "lora_alpha": 8, "target_modules": "all-linear", "task_type": "CAUSAL_LM", **options}
    )
    adapted = get_peft_model(model, config)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:
                parameter.copy_(torch.randn_like(parameter) * scale)
    return adapted.eval()


def loaded_tiny(kind: str = "qwen2", *, lora: bool = True, second: Any = None, **options: Any) -> LoadedModel:
    """A ``LoadedModel`` around a tiny model, with stand-ins for tokenizer and chat."""
    model = tiny_model(kind, **options)
    return wrap(with_lora(model) if lora else model, second=second)


def wrap(model: Any, *, second: Any = None, end_id: int = EOS) -> LoadedModel:
    """``model`` with the fields that samplers and scorers read; ``end_id`` ends a turn, besides EOS."""
    return LoadedModel(
        model=model,
        tokenizer=SimpleNamespace(pad_token_id=PAD, eos_token_id=EOS),
        chat=SimpleNamespace(end_id=end_id),  # type: ignore[arg-type]
        spec=ModelSpec(name="tiny", id="tiny", dtype="float32"),
        own_hash="own",
        base_hash="base",
        adapter_hash=None,
        second=second,
    )
