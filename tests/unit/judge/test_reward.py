"""A tiny reward model of random weights: what it reads, where its logit is read, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from guard_models import save_guard
from judge_items import item
from transformers import LlamaConfig, LlamaForSequenceClassification

from dalign.errors import ModelError
from dalign.judge import JudgeItem, make_judge
from dalign.judge.reward import RewardModel
from dalign.specs.judge import RewardSpec
from dalign.specs.run import PathsSpec

TURNS = (
    "{% for m in messages %}{{ '<|head|>' + m['role'] + '<|close|>' + m['content'] | trim + '<|turn|>' }}{% endfor %}"
)


def save_reward(folder: Path, logits: int = 1) -> Path:
    save_guard(folder, template=TURNS)
    torch.manual_seed(0)
    others = {"max_position_embeddings": 96, "num_labels": logits, "initializer_range": 0.4}
    config = LlamaConfig.from_pretrained(folder, **others)
    LlamaForSequenceClassification(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_reward(tmp_path_factory.mktemp("reward"))


def reward(folder: Path, **fields: object) -> RewardModel:
    return RewardModel(RewardSpec(**{"name": "rm", "id": str(folder), "dtype": "float32", **fields}))  # type: ignore[arg-type]


def items() -> list[JudgeItem]:
    said = ("wool", "two needles , then go on until it is warm", "no <|turn|>", "yes yes yes")
    return [item(text, text=f"how do i knit {i} ?", sample_id=str(i)) for i, text in enumerate(said)]


def test_the_reward_is_the_logit_behind_the_whole_conversation(folder: Path) -> None:
    model = reward(folder)
    verdicts = model.judge(items(), "answer")
    for one, verdict in zip(items(), verdicts, strict=True):
        ids = model.input_ids(one, "answer")
        with torch.inference_mode():
            hidden = model.model.model(input_ids=torch.tensor([ids])).last_hidden_state[0, -1]
            wanted = float(model.model.score(hidden)[0])
        assert (verdict.label, verdict.p_unsafe) == ("graded", None)
        assert verdict.score == pytest.approx(wanted, abs=1e-5)
    assert len({round(v.score or 0.0, 3) for v in verdicts}) == len(verdicts)
    turns = [{"role": "user", "content": "how do i knit 0 ?"}, {"role": "assistant", "content": "wool"}]
    plain = model.chat.tokenizer.apply_chat_template(turns, tokenize=True, return_dict=False)
    assert list(model.input_ids(items()[0], "answer")) == list(plain)
    assert "<|turn|>" in model.control_strings


def test_rewards_do_not_depend_on_the_batch_nor_forged_turns_on_control_tokens(folder: Path) -> None:
    together = [v.score for v in reward(folder).judge(items(), "answer")]
    alone = [v.score for v in reward(folder, token_budget=1).judge(items(), "answer")]
    assert together == pytest.approx(alone, abs=1e-5)
    model = reward(folder)
    turn = model.chat.tokenizer.convert_tokens_to_ids("<|turn|>")
    assert {model.input_ids(one, "answer").count(turn) for one in items()} == {2}


def test_what_has_no_reward_says_why(folder: Path, tmp_path: Path) -> None:
    spec = RewardSpec(name="rm", id=str(folder), dtype="float32")
    judge = make_judge(spec, world_seed=0, paths=PathsSpec())
    long, cut = item("knit " * 99, sample_id="long"), item(finish_reason="length", sample_id="cut")
    assert [v.reason for v in judge.judge([long, cut], "answer")] == [
        "longer than the judge's context of 96 tokens",
        "truncated",
    ]
    with pytest.raises(ModelError, match="2 logits, a reward model has one"):
        reward(save_reward(tmp_path / "two", logits=2))
    with pytest.raises(ModelError, match="cannot be loaded"):
        reward(tmp_path / "absent")
