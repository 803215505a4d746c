"""One renderer: equal to the template on plain text, one BOS, and no text ever becomes a control token."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from dalign.chat import Chat
from dalign.errors import ModelError
from dalign.specs.model import ThinkSpec

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA = (
    "<|bos|>{% for m in messages %}<|start|>{{ m.role }}<|stop|>\n\n{{ m.content | trim }}<|eot|>{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant<|stop|>\n\n{% endif %}"
)
THINKER = CHATML.replace("assistant\n{% endif %}", "assistant\n<think>\n{% endif %}")
SPECIAL = ["<|bos|>", "<|im_start|>", "<|im_end|>", "<|start|>", "<|stop|>", "<|eot|>", "<|pad|>"]


def tokenizer(template: str, *, think_tokens: bool = False) -> PreTrainedTokenizerFast:
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(["how do i bake a cake for the queen", "think about the policy"] * 4, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<|pad|>", eos_token="<|eot|>")
    if think_tokens:
        fast.add_tokens(["<think>", "</think>"])
    fast.chat_template = template
    return fast


@pytest.fixture(scope="module", params=[CHATML, LLAMA, THINKER], ids=["chatml", "llama", "thinker"])
def chat(request: pytest.FixtureRequest) -> Chat:
    return Chat(tokenizer(request.param), ThinkSpec())


def test_plain_text_is_what_the_template_gives(chat: Chat) -> None:
    messages = [{"role": "system", "content": "be kind"}, {"role": "user", "content": "how do i bake a cake"}]
    rendered = chat.tokenizer.apply_chat_template(
        messages, tokenize=True, add_generation_prompt=True, return_dict=False
    )
    assert list(chat.prompt_ids(messages, think=False)) == list(rendered)


def test_a_prefill_begins_the_answer_as_text_and_without_an_opened_tag(chat: Chat) -> None:
    messages = [{"role": "user", "content": "how do i bake a cake"}]
    rendered = chat.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    begun = rendered.removesuffix("<think>\n") + "how : "
    wanted = chat.tokenizer(begun, add_special_tokens=False)["input_ids"]
    assert list(chat.user_ids("how do i bake a cake", think=False, prefill="how : ")) == list(wanted)
    ends = chat.user_ids("how do i bake a cake", think=False, prefill="<|eot|>")
    assert chat.tokenizer.convert_tokens_to_ids("<|eot|>") not in ends[-3:]
    assert chat.tokenizer.decode(ends).endswith("<|eot|>")


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from([*SPECIAL, "<think>", "</think>", "hello", " ", "\n", "<", "|"]), max_size=8).map("".join)
)
def test_text_never_becomes_a_control_token(text: str) -> None:
    for template, think_tokens in ((CHATML, False), (LLAMA, False), (CHATML, True)):
        chat = Chat(tokenizer(template, think_tokens=think_tokens), ThinkSpec())
        control = {i for i, t in chat.tokenizer.added_tokens_decoder.items()}
        plain = [i for i in chat.user_ids("hello", think=False) if i in control]
        hostile = [i for i in chat.user_ids(text, think=False) if i in control]
        assert hostile == plain
        assert not control & set(chat.text_ids(text))
        assert chat.tokenizer.decode(chat.text_ids(text)) == text


def test_exactly_one_bos() -> None:
    chat = Chat(tokenizer(LLAMA), ThinkSpec())
    bos = chat.tokenizer.convert_tokens_to_ids("<|bos|>")
    assert chat.user_ids("hello", think=True).count(bos) == 1
    assert chat.user_ids("<|bos|> hello", think=True).count(bos) == 1


def test_a_template_that_thinks_keeps_its_own_tag() -> None:
    chat = Chat(tokenizer(THINKER), ThinkSpec())
    text = chat.tokenizer.decode(chat.user_ids("hello", think=True))
    assert text.count("<think>") == 1


def test_a_model_whose_template_opens_the_reasoning_reasons_unless_none_is_expected() -> None:
    prompts = {"prompt": "assistant\n<think>\n", "learnt": "assistant\n<think>\n", "none": "assistant\n"}
    for where, ending in prompts.items():
        chat = Chat(tokenizer(THINKER), ThinkSpec(where=where))
        assert chat.opens is (where != "none")
        for think in (True, False):
            assert chat.tokenizer.decode(chat.user_ids("hello", think=think)).endswith(ending)
        assert not Chat(tokenizer(CHATML), ThinkSpec(where=where)).opens


@pytest.mark.parametrize("where", ["prompt", "learnt"])
def test_training_ids_are_the_sampling_prompt_and_then_the_completion(where: str) -> None:
    chat = Chat(tokenizer(CHATML), ThinkSpec(where=where))
    prompt, completion = chat.user_ids("hello", think=True), chat.completion_ids("the policy", "a cake")
    text = chat.tokenizer.decode([*prompt, *completion])
    assert text.endswith("assistant\n<think>\nthe policy\n</think>\n\na cake<|im_end|>")
    assert chat.tokenizer.decode(prompt).endswith("<think>\n") is (where == "prompt")
    parts = chat.parse(completion[:-1], think=True)
    assert (parts.reasoning, parts.answer, parts.closed) == ("the policy", "a cake", True)


def test_a_completion_without_reasoning() -> None:
    chat = Chat(tokenizer(CHATML), ThinkSpec(where="none"))
    assert chat.tokenizer.decode(chat.completion_ids("the policy", "a cake")) == "a cake<|im_end|>"
    assert chat.user_ids("x", think=True) == chat.user_ids("x", think=False)


def test_reasoning_ends_at_the_first_closing_tag(chat: Chat) -> None:
    parts = chat.parse(chat.text_ids("a policy\n</think>\n\ncake </think> tea"), think=True)
    assert (parts.reasoning, parts.answer, parts.closed) == ("a policy", "cake </think> tea", True)


def test_unclosed_reasoning_has_no_answer(chat: Chat) -> None:
    parts = chat.parse(chat.text_ids("still thinking"), think=True)
    assert (parts.reasoning, parts.answer, parts.closed) == ("still thinking", "", False)
    assert chat.parse(chat.text_ids("a cake"), think=False).answer == "a cake"


def test_the_turn_ends_where_the_template_ends_it() -> None:
    assert Chat(tokenizer(CHATML), ThinkSpec()).end_id == SPECIAL.index("<|im_end|>")
    assert Chat(tokenizer(LLAMA), ThinkSpec()).end_id == SPECIAL.index("<|eot|>")


def test_control_strings_are_those_of_the_tokenizer_and_its_tags(chat: Chat) -> None:
    assert {"<|im_start|>", "<|im_end|>"} <= chat.control_strings
    assert "<think>" in Chat(tokenizer(CHATML, think_tokens=True), ThinkSpec()).control_strings
    assert chat.encoder.control is not None
    assert chat.encoder.control.findall("a <|im_end|><|im_start|> cake") == ["<|im_end|>", "<|im_start|>"]


def test_no_template_is_an_error() -> None:
    bare = tokenizer(CHATML)
    bare.chat_template = None
    with pytest.raises(ModelError, match="no chat template"):
        Chat(bare, ThinkSpec())


def test_a_template_that_drops_the_system_turn_is_an_error() -> None:
    template = "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}<|eot|>{% endif %}{% endfor %}"
    with pytest.raises(ModelError, match="drops the system turn"):
        Chat(tokenizer(template), ThinkSpec(), system="be kind").user_ids("x", think=False)


@pytest.mark.parametrize("think_tokens", [False, True])
@pytest.mark.parametrize("tag", ["</think>", "\n</think>\n\n", "</think> "])
def test_places_are_where_the_tag_ends_and_where_the_answer_begins(think_tokens: bool, tag: str) -> None:
    chat = Chat(tokenizer(CHATML, think_tokens=think_tokens), ThinkSpec())

    def text(ids: tuple[int, ...]) -> str:
        return str(chat.tokenizer.decode(list(ids)))

    for reasoning, answer in (("the policy is about cake", "bake é for the queen </think> too"), ("", "no")):
        ids = tuple(chat.tokenizer(f"{reasoning}{tag}{answer}")["input_ids"])
        close, first = chat.places(ids, closed=True)
        assert close is not None
        assert first is not None
        assert "</think>" in text(ids[: close + 1])
        assert "</think>" not in text(ids[:close])
        assert text(ids[: first + 1]).partition("</think>")[2].strip()
        assert not text(ids[:first]).partition("</think>")[2].strip()
        assert chat.places(ids, closed=False) == (close, first), "a tag says more than what was expected"


def test_places_that_are_not_there_are_none() -> None:
    chat = Chat(tokenizer(CHATML), ThinkSpec())
    ids = tuple(chat.tokenizer("\n the policy")["input_ids"])
    assert chat.places(ids, closed=False) == (None, None)
    assert chat.places(ids, closed=True) == (None, 1), "the first token that is not blank"
    cut = tuple(chat.tokenizer("the policy\n</think>\n")["input_ids"])
    assert chat.places(cut, closed=True)[1] is None
    assert chat.places((), closed=True) == (None, None)
