"""Which strings are control tokens to a model behind an endpoint, as far as that can be told from here.

Its tokenizer is on the other side: one that is named here is read for its strings alone, else the markers of common
chat formats stand in for them.
"""

from __future__ import annotations

from pathlib import Path

from dalign.encoding import Encoder
from dalign.errors import ModelError

FORMATS: dict[str, tuple[str, ...]] = {
    "ChatML": ("<|im_start|>", "<|im_sep|>", "<|im_end|>", "<|endoftext|>"),
    "Llama 2 and Mistral": (
        *("<s>", "</s>", "<<SYS>>", "<</SYS>>", "[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"),
        *("[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_CALLS]", "[TOOL_RESULTS]", "[/TOOL_RESULTS]"),
    ),
    "Llama 3": (
        *("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>"),
        *("<|eot_id|>", "<|eom_id|>", "<|python_tag|>"),
    ),
    "Llama 4": ("<|header_start|>", "<|header_end|>", "<|eot|>"),
    "Gemma": ("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>", "<|turn>", "<turn|>"),
    "Phi and GLM": ("<|system|>", "<|user|>", "<|assistant|>", "<|observation|>", "<|end|>", "[gMASK]", "<sop>"),
    "Granite": ("<|start_of_role|>", "<|end_of_role|>"),
    "gpt-oss": ("<|start|>", "<|channel|>", "<|constrain|>", "<|message|>", "<|return|>", "<|call|>"),
    "Command R": (
        *("<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>"),
        *("<|SYSTEM_TOKEN|>", "<|USER_TOKEN|>", "<|CHATBOT_TOKEN|>"),
    ),
    "DeepSeek": tuple(
        f"<\uff5c{word}\uff5c>"
        for word in ("begin\u2581of\u2581sentence", "end\u2581of\u2581sentence", "User", "Assistant")
    ),
    "reasoning and tools": ("<think>", "</think>", "<tool_call>", "</tool_call>"),
}
MARKERS = frozenset(marker for markers in FORMATS.values() for marker in markers)


def strings_of(tokenizer: str, *, judge: str) -> frozenset[str]:
    """The control strings of a tokenizer: a folder, or ``HUB_ID@REVISION``. Raises ``ModelError``, which names the
    ``judge``, for one that cannot be loaded."""
    from transformers import AutoTokenizer

    from dalign.adapters import reason_of

    name, _, revision = tokenizer.partition("@")
    source = str(folder) if (folder := Path(name).expanduser()).exists() else name
    try:
        loaded = AutoTokenizer.from_pretrained(source, revision=revision or "main")
    except (OSError, ValueError, ImportError) as error:
        raise ModelError(f"judge {judge}: tokenizer={tokenizer}: cannot be loaded: {reason_of(error)}") from error
    return Encoder(loaded, template=str(loaded.chat_template or "")).control_strings
