"""States as features of probes, against plain forward passes of both models."""

from __future__ import annotations

import pytest
import tiny_models
import torch

from dalign.attribute import Pair
from dalign.attribute.states import pooled_states, state_of

PAIRS = [Pair((5, 6, 7), (8, 9)), Pair((5, 6, 7), (10,)), Pair((4,), (11, 12, 13))]


@pytest.mark.parametrize("pooling", ["prompt", "content", "mean"])
def test_states_of_base_student_and_difference_at_every_pooling(pooling: str) -> None:
    loaded = tiny_models.loaded_tiny("qwen2")
    at = {"prompt": slice(-1, None), "content": slice(-1, None), "mean": slice(None)}[pooling]
    for wanted in ("base", "student", "difference"):
        found = pooled_states(loaded, PAIRS, wanted, pooling)  # type: ignore[arg-type]
        for pair, row in zip(PAIRS, found, strict=True):
            ids = torch.tensor([pair.prompt_ids if pooling == "prompt" else pair.prompt_ids + pair.response_ids])
            if pooling == "prompt" and len(pair.prompt_ids) == 1:
                assert row.isnan().all()  # nothing stands before it
                continue
            start = 0 if pooling == "prompt" else len(pair.prompt_ids)
            with torch.no_grad():
                student = loaded.model(input_ids=ids, output_hidden_states=True).hidden_states
                with loaded.adapter_off():
                    base = loaded.base_model()(input_ids=ids, output_hidden_states=True).hidden_states
            ours, theirs = (torch.stack([h[0, start:][at].mean(0) for h in of]) for of in (student, base))
            expected = {"base": theirs, "student": ours, "difference": ours - theirs}[wanted]
            assert torch.allclose(row, expected, atol=1e-5)
        assert wanted != "difference" or found[0, 1:].abs().max() > 1e-3, "the adapter of this test does nothing"


def test_the_students_states_must_have_been_read() -> None:
    with pytest.raises(ValueError, match="needs the student's states"):
        state_of(torch.zeros(1), None, "student")
