"""Scores read elsewhere than at the end: at the closing tag, at the first answer token, over the response."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import tiny_models
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dalign.attribute import Pair, PairScores, score, score_pairs
from dalign.attribute.hidden import read_responses
from dalign.models import LoadedModel
from dalign.specs.sampling import LAYERED, AttributionSpec

TAG = 7
SPEC = AttributionSpec(name="readouts", layered=LAYERED, flat=())
PROMPT = (5, 9, 30, 12)
WHOLE = Pair(PROMPT, (44, 71, TAG, 23, 11, 60), end_id=tiny_models.EOS)
OPEN = Pair(PROMPT, (44, 71, 23, 11, 60), end_id=tiny_models.EOS)


def places(ids: tuple[int, ...], *, closed: bool) -> tuple[int | None, int | None]:
    """As ``Chat.places`` has it, of a tokenizer in which token 7 is the closing tag and nothing is blank."""
    if TAG not in ids:
        return None, (0 if closed else None)
    at = ids.index(TAG)
    return at, (at + 1 if at + 1 < len(ids) else None)


def with_places(kind: str) -> LoadedModel:
    loaded = tiny_models.loaded_tiny(kind)
    return replace(loaded, chat=SimpleNamespace(end_id=tiny_models.EOS, places=places))  # type: ignore[arg-type]


LOADED = {kind: with_places(kind) for kind in tiny_models.KINDS}


def by_hand(loaded: LoadedModel, pair: Pair, *, turn_end: bool = False) -> dict[str, list[float]]:
    """Every score from transformers' own states of one unpadded pair."""
    ids = torch.tensor([pair.prompt_ids + pair.response_ids + ((tiny_models.EOS,) if turn_end else ())])
    with torch.no_grad():
        student = torch.stack(loaded.model(input_ids=ids, output_hidden_states=True).hidden_states)[:, 0]
        with loaded.model.disable_adapter():
            base = torch.stack(loaded.model(input_ids=ids, output_hidden_states=True).hidden_states)[:, 0]
    ours, its = (h[:, len(pair.prompt_ids) :] for h in (student, base))
    n, at = len(pair.response_ids), pair.response_ids.index(TAG)
    cosine = torch.nn.functional.cosine_similarity
    found = {
        "similarity": cosine(ours[:, -1], its[:, -1], dim=-1),
        "distance": (ours[:, -1] - its[:, -1]).square().sum(-1).sqrt(),
        "similarity_mean": cosine(ours[:, :n].mean(1), its[:, :n].mean(1), dim=-1),
        "similarity_think": cosine(ours[:, at], its[:, at], dim=-1),
        "similarity_answer": cosine(ours[:, at + 1], its[:, at + 1], dim=-1),
    }
    return {name: values.tolist() for name, values in found.items()}


@pytest.mark.parametrize("kind", tiny_models.KINDS)
@pytest.mark.parametrize("flat", [(), ("kl",)])
@pytest.mark.parametrize("position", ["content", "eos"])
def test_every_readout_is_that_of_a_plain_pass(kind: str, flat: tuple[str, ...], position: str) -> None:
    spec = SPEC.model_copy(update={"flat": flat, "position": position})
    wanted = by_hand(LOADED[kind], WHOLE, turn_end=position == "eos")
    assert len({round(values[2], 4) for values in wanted.values()}) == len(LAYERED), "two of the readouts are one"
    found = score_pairs(LOADED[kind], [Pair(PROMPT[1:], (4,), end_id=tiny_models.EOS), WHOLE], spec)[1]
    assert found.lacking == {}
    for name in LAYERED:
        assert found.layered[name] == pytest.approx(wanted[name], abs=1e-5), name


@pytest.mark.parametrize("kind", tiny_models.KINDS)
def test_one_readout_alone_is_the_same_at_every_depth(kind: str) -> None:
    wanted = by_hand(LOADED[kind], WHOLE)
    for name in LAYERED:
        for top in range(4):
            spec = SPEC.model_copy(update={"layered": (name,), "layers": (top,)})
            (found,) = score_pairs(LOADED[kind], [WHOLE], spec)
            assert found.layered[name][top] == pytest.approx(wanted[name][top], abs=1e-5), (name, top)


def test_a_place_that_is_not_there_is_nan_with_a_reason() -> None:
    tag_last = replace(WHOLE, response_ids=WHOLE.response_ids[:3])
    found = score_pairs(LOADED["qwen2"], [OPEN, WHOLE, replace(OPEN, closed=True), tag_last], SPEC)
    assert set(found[0].lacking) == {"similarity_think", "similarity_answer"}
    assert "no closing tag" in found[0].lacking["similarity_think"]
    assert (found[1].lacking, found[0].error) == ({}, "")
    assert set(found[2].lacking) == {"similarity_think"}, "no reasoning was expected: the answer begins at once"
    assert set(found[3].lacking) == {"similarity_answer"}
    assert "no first answer token" in found[3].lacking["similarity_answer"]
    for one in found:
        for name, values in one.layered.items():
            assert all(math.isnan(v) == (name in one.lacking) for v in values)
    at_first = replace(OPEN, response_ids=OPEN.response_ids[:1])
    (first,) = score_pairs(LOADED["qwen2"], [at_first], SPEC)
    assert found[2].layered["similarity_answer"] == pytest.approx(first.layered["similarity"], abs=1e-5)


token = st.integers(2, tiny_models.VOCAB - 1)
pairs_with_tags = st.builds(
    Pair,
    prompt_ids=st.lists(token, min_size=1, max_size=20).map(tuple),
    response_ids=st.lists(st.one_of(token, st.just(TAG)), min_size=1, max_size=20).map(tuple),
    end_id=st.just(tiny_models.EOS),
    closed=st.booleans(),
)


def numbers(found: PairScores) -> list[float]:
    return [value for name in LAYERED for value in found.layered[name]]


@pytest.mark.parametrize("kind", tiny_models.KINDS)
@settings(max_examples=8)
@given(
    pairs=st.lists(pairs_with_tags, min_size=2, max_size=4),
    budget=st.sampled_from([1, 100, 4096]),
    position=st.sampled_from(["content", "eos", "mean"]),
)
def test_a_readout_is_a_function_of_its_pair_alone(kind: str, pairs: list[Pair], budget: int, position: str) -> None:
    spec = SPEC.model_copy(update={"token_budget": budget, "position": position})
    for pair, found in zip(pairs, score_pairs(LOADED[kind], pairs, spec), strict=True):
        (alone,) = score_pairs(LOADED[kind], [pair], spec)
        assert numbers(found) == pytest.approx(numbers(alone), rel=1e-5, abs=1e-5, nan_ok=True)
        assert found.lacking == alone.lacking


def test_the_placebo_layer_is_level_for_every_score_and_pair() -> None:
    found = score_pairs(LOADED["llama"], [WHOLE, OPEN, Pair(PROMPT[2:], (TAG, 8))], SPEC)
    for one in found:
        at_0 = {name: values[0] for name, values in one.layered.items() if not math.isnan(values[0])}
        assert at_0 == {name: 0.0 if name == "distance" else 1.0 for name in at_0}


def test_all_readouts_take_one_pass_of_each_model_and_the_default_looks_for_no_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[int] = []

    def counted(*args: Any) -> object:
        calls.append(len(args))
        return read_responses(*args)

    monkeypatch.setattr(score, "read_responses", counted)
    score_pairs(LOADED["qwen2"], [WHOLE, OPEN], SPEC.model_copy(update={"token_budget": 4096}))
    assert calls == [6, 6], "the student and the base, once each"
    calls.clear()
    plain = tiny_models.loaded_tiny("qwen2")  # its chat has no places: asking for them would fail
    score_pairs(plain, [WHOLE], AttributionSpec(name="all"))
    assert calls == [5, 5]
    assert AttributionSpec(name="all").layered == ("similarity",), "the default computes what it always did"


def test_states_kept_while_sampling_serve_the_last_token_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = LOADED["llama"]
    ids = torch.tensor([WHOLE.prompt_ids + WHOLE.response_ids])
    with torch.no_grad():
        kept = torch.stack(loaded.model(input_ids=ids, output_hidden_states=True).hidden_states)[:, 0, -1]
    wanted = by_hand(loaded, WHOLE)
    for names in (("distance",), LAYERED):
        spec = SPEC.model_copy(update={"layered": names})
        (found,) = score_pairs(loaded, [WHOLE], spec, student=[kept])
        for name in names:
            assert found.layered[name] == pytest.approx(wanted[name], abs=1e-5)
