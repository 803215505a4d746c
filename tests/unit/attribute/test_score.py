"""Scores of pairs: a function of the pair alone, the base is the adapter off, and what cannot be scored says so."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tiny_models
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dalign.attribute import Pair, PairScores, base_states, score, score_pairs
from dalign.attribute.hidden import read_responses
from dalign.attribute.likelihood import FLAT_SCORES
from dalign.attribute.similarity import LAYERED_SCORES
from dalign.errors import ModelError
from dalign.models import LoadedModel
from dalign.select import arg_weights, uniform_weights
from dalign.specs.sampling import FLAT, LAYERED, AttributionSpec

SPEC = AttributionSpec(name="all")
LOADED = {kind: tiny_models.loaded_tiny(kind) for kind in tiny_models.KINDS}

token = st.integers(2, tiny_models.VOCAB - 1)
pair = st.builds(
    Pair,
    prompt_ids=st.lists(token, min_size=1, max_size=30).map(tuple),
    response_ids=st.lists(token, min_size=1, max_size=30).map(tuple),
    end_id=st.just(tiny_models.EOS),
)


def pairs_of(*lengths: tuple[int, int]) -> list[Pair]:
    rng = np.random.default_rng(3)
    draw = lambda n: tuple(int(i) for i in rng.integers(2, tiny_models.VOCAB, n))  # noqa: E731
    return [Pair(draw(p), draw(r), end_id=tiny_models.EOS) for p, r in lengths]


def numbers(found: PairScores) -> list[float]:
    assert not found.error
    return [*found.layered["similarity"], *(found.flat[name] for name in FLAT)]


@pytest.mark.parametrize("kind", tiny_models.KINDS)
@settings(max_examples=8, deadline=None)
@given(
    pairs=st.lists(pair, min_size=2, max_size=4),
    budget=st.sampled_from([1, 100, 4096]),
    position=st.sampled_from(["content", "eos", "mean"]),
    data=st.data(),
)
def test_a_score_is_a_function_of_its_pair_alone(
    kind: str, pairs: list[Pair], budget: int, position: str, data: st.DataObject
) -> None:
    order = data.draw(st.permutations(range(len(pairs))))
    spec = AttributionSpec(name="all", position=position, token_budget=budget)
    together = score_pairs(LOADED[kind], [pairs[i] for i in order], spec)
    for i, found in zip(order, together, strict=True):
        (alone,) = score_pairs(LOADED[kind], [pairs[i]], spec)
        assert numbers(found) == pytest.approx(numbers(alone), rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("kind", tiny_models.KINDS)
def test_scores_equal_a_plain_forward_of_both_models(kind: str) -> None:
    """The whole way once more without batches, hooks, chunks or our formulas: transformers and scipy alone."""
    from scipy.special import log_softmax, rel_entr

    loaded, (one,) = LOADED[kind], pairs_of((9, 13))
    ids = torch.tensor([one.prompt_ids + one.response_ids])
    with torch.no_grad():
        student = loaded.model(input_ids=ids, output_hidden_states=True)
        with loaded.model.disable_adapter():
            base = loaded.model(input_ids=ids, output_hidden_states=True)
    cosines = [torch.cosine_similarity(a[0, -1], b[0, -1], dim=0).item()
               for a, b in zip(student.hidden_states, base.hidden_states, strict=True)]  # fmt: skip
    p, q = (log_softmax(out.logits[0, 8:-1].double().numpy(), axis=-1) for out in (student, base))
    drawn = (np.arange(13), np.array(one.response_ids))
    wanted = {
        "kl": rel_entr(np.exp(p), np.exp(q)).sum(-1).mean(),
        "reverse_kl": rel_entr(np.exp(q), np.exp(p)).sum(-1).mean(),
        "ppl_student": np.exp(-p[drawn].mean()),
        "ppl_base": np.exp(-q[drawn].mean()),
        "self_certainty": -(np.log(tiny_models.VOCAB) + p.mean(-1)).mean(),
        "gini": (1 - np.exp(2 * p).sum(-1)).mean(),
        "logp_ratio": (p[drawn] - q[drawn]).mean(),
    }
    (found,) = score_pairs(loaded, [one], SPEC)
    assert found.layered["similarity"] == pytest.approx(cosines, abs=1e-5)
    assert found.flat == pytest.approx(wanted, rel=1e-5, abs=1e-6)
    assert found.flat["kl"] > 0.01, "the adapter of this test does nothing"


def test_eos_reads_the_turns_end_and_leaves_likelihoods_alone() -> None:
    loaded, (one,) = LOADED["qwen2"], pairs_of((6, 8))
    (content,) = score_pairs(loaded, [one], SPEC)
    (eos,) = score_pairs(loaded, [one], SPEC.model_copy(update={"position": "eos"}))
    longer = Pair(one.prompt_ids, (*one.response_ids, tiny_models.EOS))
    (by_hand,) = score_pairs(loaded, [longer], SPEC)
    assert eos.layered["similarity"] == pytest.approx(by_hand.layered["similarity"], abs=1e-6)
    assert eos.layered["similarity"] != pytest.approx(content.layered["similarity"], abs=1e-3)
    assert eos.flat == pytest.approx(content.flat, rel=1e-5)
    with pytest.raises(ValueError, match="end_id"):
        score_pairs(loaded, [replace(one, end_id=None)], SPEC.model_copy(update={"position": "eos"}))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_placebo_layer_is_exactly_one_for_every_pair(dtype: torch.dtype) -> None:
    loaded = tiny_models.wrap(tiny_models.with_lora(tiny_models.tiny_model("qwen2").to(dtype)))
    found = score_pairs(loaded, pairs_of(*((i + 1, 40 - i) for i in range(8))), SPEC)
    table = np.array([[one.layered["similarity"] for one in found]])
    assert (table[..., 0] == 1.0).all()
    everyone = np.ones((1, 8), dtype=bool)
    np.testing.assert_array_equal(arg_weights(table[..., 0], everyone, "argmin"), uniform_weights(everyone))
    assert (table[..., 1:] < 1.0).all()


def test_an_adapter_that_does_nothing_scores_one_and_zero() -> None:
    loaded = tiny_models.wrap(tiny_models.with_lora(tiny_models.tiny_model("llama"), scale=0.0))
    for found in score_pairs(loaded, pairs_of((5, 7), (11, 2)), SPEC):
        assert found.layered["similarity"] == [1.0] * 4
        assert (found.flat["kl"], found.flat["reverse_kl"], found.flat["logp_ratio"]) == (0.0, 0.0, 0.0)


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`")
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("options", [{"modules_to_save": ["lm_head"]}, {"trainable_token_indices": [5, 6, 7]}])
def test_the_base_of_a_trained_head_or_trained_tokens_is_the_bare_model(tied: bool, options: dict[str, Any]) -> None:
    bare = tiny_models.wrap(tiny_models.tiny_model("llama", tied=tied))
    model = tiny_models.with_lora(tiny_models.tiny_model("llama", tied=tied), **options)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "modules_to_save" in name or "trainable_tokens" in name:
                parameter.add_(0.5 * torch.randn_like(parameter))
    loaded = tiny_models.wrap(model)
    pairs = [*pairs_of((5, 7), (3, 20)), Pair((9, 5, 8), (6, 10, 7))]
    for found, plain in zip(score_pairs(loaded, pairs, SPEC), score_pairs(bare, pairs, SPEC), strict=True):
        assert found.flat["ppl_base"] == pytest.approx(plain.flat["ppl_student"], rel=1e-6)
        assert found.flat["ppl_student"] != pytest.approx(found.flat["ppl_base"], rel=1e-2)
    assert torch.equal(base_states(loaded, pairs), base_states(bare, pairs))
    at_embeddings = score_pairs(loaded, pairs, SPEC)[-1].layered["similarity"][0]
    assert (at_embeddings < 1.0) == ("trainable_token_indices" in options), "7 ends the last pair, and is trained"


def test_a_second_checkpoint_is_what_is_attributed_to() -> None:
    other = tiny_models.tiny_model("qwen2", seed=5)
    loaded = tiny_models.wrap(tiny_models.tiny_model("qwen2"), second=other)
    alone = tiny_models.wrap(other)
    pairs = pairs_of((5, 7), (3, 20))
    assert torch.equal(base_states(loaded, pairs), base_states(alone, pairs))
    for found, plain in zip(score_pairs(loaded, pairs, SPEC), score_pairs(alone, pairs, SPEC), strict=True):
        assert found.flat["ppl_base"] == pytest.approx(plain.flat["ppl_student"], rel=1e-6)
        assert found.layered["similarity"][0] < 1.0, "embeddings of two checkpoints differ: layer 0 is no placebo here"


def test_base_states_are_the_bare_models_and_do_not_depend_on_the_batch() -> None:
    loaded, bare = LOADED["gemma3"], tiny_models.tiny_model("gemma3")
    pairs = pairs_of((5, 7), (3, 20), (30, 4))
    states = base_states(loaded, pairs)
    assert states.shape == (3, 4, tiny_models.WIDTH)
    assert states.dtype == torch.float32
    for row, one in zip(states, pairs, strict=True):
        out = bare(input_ids=torch.tensor([one.prompt_ids + one.response_ids]), output_hidden_states=True)
        torch.testing.assert_close(row, torch.stack([h[0, -1] for h in out.hidden_states]), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(base_states(loaded, pairs, token_budget=1), states, atol=1e-5, rtol=1e-5)


def test_pairs_that_cannot_be_scored_say_why_and_leave_their_neighbours_alone() -> None:
    loaded = LOADED["llama"]
    good, fits, too_long = pairs_of((5, 7), (100, tiny_models.CONTEXT - 100), (100, tiny_models.CONTEXT - 99))
    empty, no_prompt = Pair((4, 5), ()), Pair((), (4, 5))
    found = score_pairs(loaded, [too_long, good, empty, fits, no_prompt], SPEC)
    assert found[0].error == "257 tokens, and the model's context is 256: the pair is not cut"
    assert "empty response" in found[2].error
    assert "empty prompt" in found[4].error
    assert all(not one.flat and not one.layered for one in (found[0], found[2], found[4]))
    assert not found[1].error
    assert not found[3].error
    states = base_states(loaded, [too_long, good])
    assert states[0].isnan().all()
    assert not states[1].isnan().any()
    (at_eos,) = score_pairs(loaded, [replace(fits, end_id=1)], SPEC.model_copy(update={"position": "eos"}))
    assert at_eos.error.startswith("257 tokens")


def test_nothing_to_score_is_no_error() -> None:
    assert score_pairs(LOADED["llama"], [], SPEC) == []
    assert base_states(LOADED["llama"], []).shape == (0, 4, tiny_models.WIDTH)


def test_the_head_does_not_run_unless_a_likelihood_is_asked_for() -> None:
    loaded = tiny_models.loaded_tiny("qwen2")

    def fail(*_: object) -> None:
        raise AssertionError("the head ran")

    loaded.model.get_base_model().lm_head.register_forward_hook(fail)
    (found,) = score_pairs(loaded, pairs_of((5, 7)), SPEC.model_copy(update={"flat": ()}))
    assert found.flat == {}
    assert len(found.layered["similarity"]) == 4


def test_the_head_runs_over_response_positions_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score, "HEAD_ROWS", 1)
    loaded, rows = tiny_models.loaded_tiny("qwen2"), []
    loaded.model.get_base_model().lm_head.register_forward_hook(lambda _, args, __: rows.append(args[0].shape[-2]))
    score_pairs(loaded, pairs_of((50, 7), (40, 9)), SPEC)
    assert rows[-2:] == [16, 16]


def test_chunks_of_the_head_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = pairs_of((5, 70), (3, 90))
    whole = score_pairs(LOADED["qwen2"], pairs, SPEC)
    monkeypatch.setattr(score, "CPU_LOGITS", 1)
    for one, other in zip(whole, score_pairs(LOADED["qwen2"], pairs, SPEC), strict=True):
        assert numbers(one) == pytest.approx(numbers(other), rel=1e-5, abs=1e-5)


def test_running_out_of_memory_halves_the_batch_and_keeps_the_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded, pairs = LOADED["qwen2"], pairs_of(*((5, 20 - i) for i in range(8)))
    wanted = score_pairs(loaded, pairs, SPEC)
    sizes: list[int] = []

    def scarce(model: Any, prompts: Any, rows: Any, batch: Any, wanted: Any) -> object:
        sizes.append(batch.ids_BT.numel())
        if sizes[-1] > 80:
            raise torch.OutOfMemoryError("out of memory")
        return read_responses(model, prompts, rows, batch, wanted)

    monkeypatch.setattr(score, "read_responses", scarce)
    found = score_pairs(loaded, pairs, SPEC)
    assert sizes[0] > 80
    assert max(sizes[2:]) <= 80 * 2
    for one, other in zip(found, wanted, strict=True):
        assert numbers(one) == pytest.approx(numbers(other), rel=1e-5, abs=1e-5)


def test_memory_lost_in_the_base_pass_scores_no_pair_twice_or_against_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """The adapter is back on after a failure inside ``adapter_off``, else the retry would compare base with base."""
    loaded: LoadedModel = LOADED["llama"]
    pairs, calls = pairs_of((5, 7), (5, 7)), []

    def fails_once_in_the_base_pass(*args: Any) -> object:
        calls.append(args)
        if len(calls) == 2:
            raise torch.OutOfMemoryError("out of memory")
        return read_responses(*args)

    monkeypatch.setattr(score, "read_responses", fails_once_in_the_base_pass)
    assert all(one.flat["kl"] > 0.01 for one in score_pairs(loaded, pairs, SPEC))


def test_training_goes_on_as_before() -> None:
    loaded = tiny_models.loaded_tiny("qwen2")
    loaded.model.train()
    before = [module.training for module in loaded.model.modules()]
    score_pairs(loaded, pairs_of((5, 7)), SPEC)
    assert [module.training for module in loaded.model.modules()] == before
    loss = loaded.model(input_ids=torch.tensor([[5, 6, 7]]), labels=torch.tensor([[5, 6, 7]])).loss
    loss.backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in loaded.model.parameters())


def test_bfloat16_scores_stay_near_those_of_float32() -> None:
    """Stated tolerance of the reduced precision on these models: 0.02 in cosine, 10 % in KL."""
    exact = LOADED["llama"]
    rounded = tiny_models.wrap(tiny_models.with_lora(tiny_models.tiny_model("llama").to(torch.bfloat16)))
    pairs: Sequence[Pair] = pairs_of((5, 7), (30, 20), (12, 40))
    for one, other in zip(score_pairs(exact, pairs, SPEC), score_pairs(rounded, pairs, SPEC), strict=True):
        assert other.layered["similarity"] == pytest.approx(one.layered["similarity"], abs=0.02)
        assert other.flat["kl"] == pytest.approx(one.flat["kl"], rel=0.1)
        assert math.isfinite(other.flat["ppl_base"])


def test_layers_that_are_not_asked_for_are_nan_and_the_others_the_same() -> None:
    loaded, pairs = LOADED["llama"], pairs_of((5, 7), (9, 3))
    whole = score_pairs(loaded, pairs, SPEC)
    for layers in ((0,), (2,), (1, 3)):
        some = score_pairs(loaded, pairs, SPEC.model_copy(update={"layers": layers, "flat": ()}))
        for one, other in zip(some, whole, strict=True):
            values = one.layered["similarity"]
            assert [i for i, value in enumerate(values) if not math.isnan(value)] == list(layers)
            assert [values[i] for i in layers] == pytest.approx(
                [other.layered["similarity"][i] for i in layers], abs=1e-5
            )
    with pytest.raises(ModelError, match="layers 0"):
        score_pairs(loaded, pairs, SPEC.model_copy(update={"layers": (4,)}))


def test_the_mean_readout_is_the_mean_over_the_response() -> None:
    loaded, (one,) = LOADED["gemma3"], pairs_of((6, 11))
    (found,) = score_pairs(loaded, [one], SPEC.model_copy(update={"position": "mean", "flat": ()}))
    ids = torch.tensor([one.prompt_ids + one.response_ids])
    with torch.no_grad():
        student = loaded.model(input_ids=ids, output_hidden_states=True).hidden_states
        with loaded.model.disable_adapter():
            base = loaded.model(input_ids=ids, output_hidden_states=True).hidden_states
    wanted = [
        torch.cosine_similarity(a[0, 6:].mean(0), b[0, 6:].mean(0), dim=0).item()
        for a, b in zip(student, base, strict=True)
    ]
    assert found.layered["similarity"] == pytest.approx(wanted, abs=1e-5)


def test_states_kept_while_sampling_save_the_students_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded, pairs = LOADED["llama"], pairs_of((5, 7), (9, 3), (5, 2))
    spec = SPEC.model_copy(update={"flat": ()})
    wanted = score_pairs(loaded, pairs, spec)
    with torch.no_grad():
        states = [
            torch.stack(loaded.model(input_ids=torch.tensor([p.prompt_ids + p.response_ids]),
                                     output_hidden_states=True).hidden_states)[:, 0, -1]
            for p in pairs
        ]  # fmt: skip
    passes: list[bool] = []

    def counted(*args: Any) -> object:
        passes.append(loaded.model.base_model.model.model.layers[0].self_attn.q_proj.disable_adapters)
        return read_responses(*args)

    monkeypatch.setattr(score, "read_responses", counted)
    found = score_pairs(loaded, pairs, spec, student=[states[0], None, states[2]])
    for one, other in zip(found, wanted, strict=True):
        assert one.layered["similarity"] == pytest.approx(other.layered["similarity"], abs=1e-5)
    assert passes == [True, False, True], "the base for the two kept, both for the third"
    for position in ("eos", "mean"):  # what was kept is the state at the last id, which these do not read
        other = spec.model_copy(update={"position": position})
        plain = score_pairs(loaded, pairs, other)
        kept = score_pairs(loaded, pairs, other, student=[states[0], None, states[2]])
        for one, other_one in zip(kept, plain, strict=True):
            assert one.layered["similarity"] == pytest.approx(other_one.layered["similarity"], abs=1e-5)


def test_every_score_that_can_be_asked_for_is_there() -> None:
    assert (set(FLAT_SCORES), set(LAYERED_SCORES)) == (set(FLAT), set(LAYERED))
