"""The tokenizer of a world: one id a word, split at spaces, with the turn markers as special tokens."""

from __future__ import annotations

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import PreTrainedTokenizerFast

from dalign.toy.markup import CHAT_TEMPLATE, END, PAD, SPECIAL, UNKNOWN
from dalign.toy.world import World


def build_tokenizer(world: World) -> PreTrainedTokenizerFast:
    """The tokenizer of a world's vocabulary: padding on the left, nothing added to a text, ``<think>`` a plain word."""
    vocabulary = {word: i for i, word in enumerate(world.vocabulary)}
    core = Tokenizer(WordLevel(vocabulary, unk_token=UNKNOWN))
    core.pre_tokenizer = WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=PAD,
        eos_token=END,
        unk_token=UNKNOWN,
        additional_special_tokens=[t for t in SPECIAL if t not in (PAD, END, UNKNOWN)],
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_max_length=256,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer
