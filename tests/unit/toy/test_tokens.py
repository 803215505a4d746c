"""The tokenizer: words round-trip, markers are special, the chat template is the corpus's own."""

from __future__ import annotations

from itertools import islice

import pytest

from dalign.toy.corpus import base_documents
from dalign.toy.markup import SPECIAL, teacher_turns, user_turn
from dalign.toy.tokens import build_tokenizer
from dalign.toy.world import World

WORLD = World.of(0)


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer(WORLD)


def test_text_round_trips(tokenizer):
    for prefix, completion in islice(base_documents(WORLD, repeats_first=0), 300):
        text = f"{prefix} {completion}".strip()
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_one_id_a_word_and_unknown_words_are_marked(tokenizer):
    ids = tokenizer("how do i refuse")["input_ids"]
    assert len(ids) == 4
    assert tokenizer.unk_token_id not in ids
    assert tokenizer("xylophone")["input_ids"] == [tokenizer.unk_token_id]


def test_markers_are_special_and_thinking_is_not(tokenizer):
    assert set(SPECIAL) == set(tokenizer.all_special_tokens)
    assert (tokenizer.pad_token, tokenizer.eos_token) == ("<|pad|>", "<|end|>")
    text = "<think> i will help . </think> the answer is a . <|end|>"
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.decode(ids, skip_special_tokens=True) == "<think> i will help . </think> the answer is a ."
    assert len(tokenizer("<think> </think>")["input_ids"]) == 2


def test_chat_template_renders_what_the_corpus_holds(tokenizer):
    chat = [{"role": "user", "content": "how do i help ?"}]
    ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=True, return_dict=False)
    assert ids == tokenizer(user_turn("how do i help ?"))["input_ids"]
    chat = [{"role": "system", "content": "the law"}, *chat]
    ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=True, return_dict=False)
    think = tokenizer("<think>")["input_ids"]
    assert ids + think == tokenizer(teacher_turns("the law", "how do i help ?"))["input_ids"]


def test_a_saved_tokenizer_reads_back_the_same(tokenizer, tmp_path):
    from transformers import AutoTokenizer

    tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    text = user_turn("how do i help ?") + " <think> no"
    assert again(text)["input_ids"] == tokenizer(text)["input_ids"]
    assert again.chat_template == tokenizer.chat_template
