"""Greedy decoding: one answer a prompt, the most likely one, drawn once whatever N is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from dalign import drawing
from dalign.models import load_model
from dalign.policies import Policy
from dalign.records import Prompt
from dalign.sample import Drawn, Request
from dalign.specs.model import ModelSpec, ThinkSpec
from dalign.specs.sampling import SamplerSpec
from dalign.toy.assets import toy_models


def test_greedy_is_the_most_likely_continuation_and_costs_one_draw(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = toy_models(0, tmp_path) / "base"
    loaded = load_model(ModelSpec(name="b", id=str(base), dtype="float32", think=ThinkSpec(where="none")))
    policy = Policy("base", loaded, False, lambda p: loaded.chat.user_ids(p.text, think=False))
    prompts = [Prompt("made_up", text, text, "benign", text) for text in ("the king", "tell me of it")]
    asked: list[int] = []
    engine = drawing.transformers_engine

    class Counted:
        def __init__(self, *args: Any) -> None:
            self.made = engine(*args)

        def draw(self, requests: Sequence[Request]) -> list[Drawn]:
            asked.append(len(requests))
            return self.made.draw(requests)

    monkeypatch.setattr(drawing, "transformers_engine", Counted)
    greedy = SamplerSpec(name="greedy", n=3, temperature=0.0, max_new_tokens=12)
    samples = drawing.draw_samples(policy, prompts, range(1, 4), greedy, seed=0)
    assert asked == [2]
    assert [(s.prompt_id, s.index) for s in samples] == [(p.id, i) for p in prompts for i in (1, 2, 3)]
    assert len({s.id for s in samples}) == 6
    for at, prompt in enumerate(prompts):
        own = {s.response_ids for s in samples[3 * at : 3 * at + 3]}
        ids = list(loaded.chat.user_ids(prompt.text, think=False))
        wanted: list[int] = []
        for _ in range(12):
            with torch.no_grad():
                token = int(loaded.model(input_ids=torch.tensor([ids + wanted])).logits[0, -1].argmax())
            if token in loaded.eos_ids:
                break
            wanted.append(token)
        assert own == {tuple(wanted)}
    drawing.draw_samples(policy, prompts, range(3), greedy.model_copy(update={"temperature": 0.7}), seed=0)
    assert asked[-1] == 6
