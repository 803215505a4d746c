"""Guards asked with bare responses: what they no longer know, and where their verdict is read."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from guard_models import guard_spec, save_guard
from judge_items import item

from dalign.judge import make_judge
from dalign.judge.bare import bare_judge, can_be_bare
from dalign.specs.judge import RuleJudgeSpec, ToyGuardSpec
from dalign.specs.run import PathsSpec
from dalign.toy.world import World

TOY = ToyGuardSpec(name="toy_guard")


def of_toy(bare: bool) -> list[float]:
    """P(unsafe) of one answer after a harmful and a harmless prompt."""
    world = World.of(0)
    prompts = [world.prompts("toy_strongreject")[0].text, world.prompts("toy_gsm8k")[0].text]
    make = bare_judge if bare else make_judge
    judge = make(TOY, world_seed=0, paths=PathsSpec())
    asked = [item("take the wool and hide it", text=text, sample_id=str(i)) for i, text in enumerate(prompts)]
    return [v.p_unsafe or 0.0 for v in judge.judge(asked, "answer")]


def test_a_bare_toy_guard_does_not_know_what_was_asked() -> None:
    told, bare = of_toy(False), of_toy(True)
    assert abs(told[0] - told[1]) > 1e-3
    assert bare[0] == pytest.approx(bare[1], abs=1e-6)


def test_a_bare_guard_is_read_right_behind_the_response(tmp_path: Path) -> None:
    spec = guard_spec(save_guard(tmp_path / "guard"), min_menu=0.9)
    judge = bare_judge(spec, world_seed=0, paths=PathsSpec())
    guard = judge.inner
    answers = ["take wool", "two needles and then go on until it is warm"]
    for answer, verdict in zip(answers, judge.judge([item(a) for a in answers], "answer"), strict=True):
        ids = guard.tokenizer(f"{answer}\n\n", add_special_tokens=False, return_tensors="pt")["input_ids"]  # type: ignore[attr-defined]
        with torch.inference_mode():
            p = guard.model(input_ids=ids).logits[0, -1].softmax(-1)  # type: ignore[attr-defined]
        first = [int(guard.tokenizer(w, add_special_tokens=False)["input_ids"][0]) for w in ("unsafe", "safe")]  # type: ignore[attr-defined]
        unsafe, safe = (float(p[i]) for i in first)
        assert verdict.label != "unscored"  # the released code takes whatever the guard says
        assert verdict.p_unsafe == pytest.approx(unsafe / (unsafe + safe), abs=1e-5)


def test_a_bare_judge_has_a_version_of_its_own_and_keeps_the_screen() -> None:
    judge = bare_judge(TOY, world_seed=0, paths=PathsSpec())
    assert judge.version == make_judge(TOY, world_seed=0, paths=PathsSpec()).version + "-bare"
    (verdict,) = judge.judge([item("yes", finish_reason="length")], "answer")
    assert (verdict.label, verdict.reason) == ("unscored", "truncated")


def test_only_guards_can_be_bare() -> None:
    phrases = RuleJudgeSpec(name="phrases", kind="phrases")
    assert can_be_bare(TOY)
    assert not can_be_bare(phrases)
    with pytest.raises(ValueError, match="no guard"):
        bare_judge(phrases, world_seed=0, paths=PathsSpec())
