"""The released code's errors (docs/paper_map.md) that a scorer could commit, each with a test that shows it."""

from __future__ import annotations

import gc

import numpy as np
import pytest
import tiny_models
import torch

from dalign.attribute import Pair, base_states, score_pairs
from dalign.attribute.batches import left_pad
from dalign.specs.sampling import AttributionSpec

SPEC = AttributionSpec(name="all")
RNG = np.random.default_rng(0)


def ids(count: int) -> tuple[int, ...]:
    return tuple(int(i) for i in RNG.integers(2, tiny_models.VOCAB, count))


def test_paper_error_3_state_read_at_a_padding_position() -> None:
    bare = tiny_models.wrap(tiny_models.tiny_model("qwen2"))
    short, long = Pair(ids(4), ids(5)), Pair(ids(10), ids(30))
    (state, _) = base_states(bare, [short, long])
    row = torch.tensor([short.prompt_ids + short.response_ids])
    right_padded = torch.nn.functional.pad(row, (0, 31), value=tiny_models.PAD)
    mask = (torch.arange(40) < 9).long()[None]
    with torch.no_grad():
        alone = bare.model(input_ids=row, output_hidden_states=True).hidden_states[-1][0, -1]
        wrong = bare.model(input_ids=right_padded, attention_mask=mask, output_hidden_states=True).hidden_states[-1]
    torch.testing.assert_close(state[-1], alone, atol=1e-5, rtol=1e-5)
    assert (state[-1] - wrong[0, -1]).abs().max() > 0.1, "index -1 of a right-padded row is the wrong place to read"


def test_paper_error_10_padding_side_unset() -> None:
    """The side is ours to set: no tokenizer attribute is asked, and every row ends in the last column."""
    loaded = tiny_models.loaded_tiny("llama")
    loaded.tokenizer.padding_side = "right"
    short, long = Pair(ids(4), ids(5)), Pair(ids(10), ids(30))
    together = score_pairs(loaded, [short, long], SPEC)[0].layered["similarity"]
    assert together == pytest.approx(score_pairs(loaded, [short], SPEC)[0].layered["similarity"], abs=1e-5)
    batch = left_pad([short.prompt_ids, long.prompt_ids], 16, 0, torch.device("cpu"))
    assert batch.ids_BT[:, -1].tolist() == [short.prompt_ids[-1], long.prompt_ids[-1]]


def test_paper_error_12_pairs_cut_at_2048_tokens() -> None:
    loaded = tiny_models.loaded_tiny("llama", layers=2, context=4096)
    start, response = ids(100), ids(2000)
    found = score_pairs(loaded, [Pair(start, response), Pair(start, (*response[:-1], 3, 4, 5))], SPEC)
    assert found[0].layered["similarity"][-1] != pytest.approx(found[1].layered["similarity"][-1], abs=1e-4)
    (too_long,) = score_pairs(loaded, [Pair(start, ids(4000))], SPEC)
    assert "4100 tokens" in too_long.error
    assert too_long.layered == {}


def parameters_alive() -> int:
    gc.collect()
    return sum(issubclass(type(thing), torch.nn.Parameter) for thing in gc.get_objects())


def test_paper_error_13_two_copies_of_the_model_in_memory() -> None:
    loaded = tiny_models.loaded_tiny("qwen2")
    assert loaded.base_model() is loaded.model
    during: list[int] = []
    last_layer = loaded.model.get_base_model().model.layers[-1]
    last_layer.register_forward_hook(lambda *_: during.append(parameters_alive()))
    before = parameters_alive()
    score_pairs(loaded, [Pair(ids(5), ids(6))], SPEC.model_copy(update={"flat": ()}))
    assert during == [before] * 4, "prompt and response, adapter on and off, go through the one model there is"


def test_paper_error_14_attention_mask_zeroed_over_the_prompt() -> None:
    loaded, response = tiny_models.loaded_tiny("qwen2"), ids(12)
    prompts = [ids(9), ids(9)]
    found = score_pairs(loaded, [Pair(prompt, response) for prompt in prompts], SPEC)
    for name in ("self_certainty", "gini"):
        assert found[0].flat[name] != pytest.approx(found[1].flat[name], rel=1e-3), f"{name} does not see the prompt"
    with torch.no_grad():
        logits = loaded.model(input_ids=torch.tensor([prompts[0] + response])).logits[0, 8:-1]
    p = logits.softmax(-1)
    assert found[0].flat["gini"] == pytest.approx((1 - (p * p).sum(-1)).mean().item(), abs=1e-5)


def test_kl_is_not_shifted_by_one() -> None:
    """The released KL drops the first response token's distribution and adds the one after the last."""
    loaded, one = tiny_models.loaded_tiny("llama"), Pair(ids(7), ids(3))
    with torch.no_grad():
        whole = torch.tensor([one.prompt_ids + one.response_ids])
        p = loaded.model(input_ids=whole).logits[0].log_softmax(-1)
        with loaded.adapter_off():
            q = loaded.model(input_ids=whole).logits[0].log_softmax(-1)
    at_position = (p.exp() * (p - q)).sum(-1)
    (found,) = score_pairs(loaded, [one], SPEC)
    assert found.flat["kl"] == pytest.approx(at_position[6:9].mean().item(), rel=1e-5)
    assert found.flat["kl"] != pytest.approx(at_position[7:10].mean().item(), rel=1e-2)
    tokens = torch.tensor(one.response_ids)
    assert found.flat["ppl_student"] == pytest.approx(p[6:9].gather(1, tokens[:, None]).mean().neg().exp().item())
