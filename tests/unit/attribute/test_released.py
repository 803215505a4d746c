"""Replicas of the released code's scores: each switch changes what it should, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import tiny_models
import torch

from dalign.attribute import Pair, score_pairs
from dalign.attribute.released import BATCH, Replica, released_similarities
from dalign.specs.sampling import AttributionSpec

SPEC = AttributionSpec(name="similarity", flat=())
RNG = np.random.default_rng(0)
LENGTHS = (9, 5, 20, 13, 7, 30)


def ids(count: int) -> tuple[int, ...]:
    return tuple(int(i) for i in RNG.integers(2, tiny_models.VOCAB, count))


@pytest.fixture(scope="module", params=["qwen2", "gemma3"])
def loaded(request: pytest.FixtureRequest) -> object:
    return tiny_models.loaded_tiny(request.param)


PAIRS = [Pair(ids(4), ids(n)) for n in LENGTHS]


def read(loaded: object, pairs: list[Pair], **switch: object) -> np.ndarray:
    found = released_similarities(loaded, pairs, {"it": Replica(**switch)})  # type: ignore[arg-type]
    return np.array([one["it"] for one in found])


def corrected(loaded: object, pairs: list[Pair]) -> np.ndarray:
    return np.array([s.layered["similarity"] for s in score_pairs(loaded, pairs, SPEC)])  # type: ignore[arg-type]


def test_without_a_switch_a_replica_is_the_corrected_score(loaded: object) -> None:
    np.testing.assert_allclose(read(loaded, PAIRS), corrected(loaded, PAIRS), atol=1e-5)


def test_pad_position_moves_every_pair_but_the_longest_of_its_four(loaded: object) -> None:
    found, own = read(loaded, PAIRS, pad_position=True), corrected(loaded, PAIRS)
    longest = {2, 5}  # of the first four pairs, and of the two that are left
    for i in range(len(PAIRS)):
        moved = np.abs(found[i, 1:] - own[i, 1:]).max()
        assert (moved < 1e-5) == (i in longest), i
    assert (found[:, 0] == 1.0).all()  # a padding token's embedding is the base's too


def test_pad_position_hangs_on_the_neighbours_and_the_corrected_score_does_not(loaded: object) -> None:
    one = [PAIRS[0]]
    among = [PAIRS[0], *PAIRS[2:4]]
    assert np.abs(read(loaded, among, pad_position=True)[0] - read(loaded, one, pad_position=True)[0]).max() > 1e-3
    np.testing.assert_allclose(read(loaded, among)[0], read(loaded, one)[0], atol=1e-5)
    np.testing.assert_allclose(read(loaded, one, pad_position=True), corrected(loaded, one), atol=1e-5)


def test_pad_position_is_index_minus_one_of_transformers_own_output(loaded: object) -> None:
    rows = [p.prompt_ids + p.response_ids for p in PAIRS[:BATCH]]
    width = max(map(len, rows))
    batch = torch.tensor([row + (tiny_models.PAD,) * (width - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    model = loaded.model  # type: ignore[attr-defined]
    with torch.no_grad():
        ours = model(input_ids=batch, attention_mask=mask, output_hidden_states=True).hidden_states
        with loaded.adapter_off():  # type: ignore[attr-defined]
            base = model(input_ids=batch, attention_mask=mask, output_hidden_states=True).hidden_states
    wanted = [torch.cosine_similarity(a[:, -1], b[:, -1], dim=-1) for a, b in zip(ours, base, strict=True)]
    found = read(loaded, PAIRS[:BATCH], pad_position=True)
    np.testing.assert_allclose(found, torch.stack(wanted, dim=1).numpy(), atol=1e-5)


def test_a_cut_changes_pairs_longer_than_it_alone(loaded: object) -> None:
    found, own = read(loaded, PAIRS, cut=15), corrected(loaded, PAIRS)
    for i, pair in enumerate(PAIRS):
        cut = Pair(pair.prompt_ids, pair.response_ids[: 15 - 4])
        np.testing.assert_allclose(found[i], corrected(loaded, [cut])[0], atol=1e-5)
        assert (np.abs(found[i] - own[i]).max() > 1e-4) == (len(pair.response_ids) > 11)


def test_a_cut_inside_the_prompt_hides_the_response(loaded: object) -> None:
    prompt = ids(20)
    found = read(loaded, [Pair(prompt, ids(5)), Pair(prompt, ids(9))], cut=12)
    np.testing.assert_allclose(found[0], found[1], atol=1e-6)


def test_bfloat16_breaks_the_placebo_and_moves_the_rest_a_little(loaded: object) -> None:
    found, own = read(loaded, PAIRS, bf16=True), corrected(loaded, PAIRS)
    assert (found == torch.tensor(found).bfloat16().double().numpy()).all()
    assert 0 < np.abs(found - own).max() < 0.02
    assert (own[:, 0] == 1.0).all()
    assert (found[:, 0] != 1.0).any()


def test_replicas_of_one_call_are_those_of_several(loaded: object) -> None:
    replicas = {"pad": Replica(pad_position=True), "cut": Replica(cut=15), "all": Replica(True, 15, True)}
    together = released_similarities(loaded, PAIRS, replicas)  # type: ignore[arg-type]
    for name, replica in replicas.items():
        alone = released_similarities(loaded, PAIRS, {name: replica})  # type: ignore[arg-type]
        assert [one[name] for one in together] == [one[name] for one in alone]


def test_what_cannot_be_scored_has_no_score_unless_the_cut_makes_it_fit(loaded: object) -> None:
    pairs = [Pair(ids(4), ()), Pair(ids(4), ids(tiny_models.CONTEXT)), PAIRS[0]]
    found = released_similarities(loaded, pairs, {"whole": Replica(), "cut": Replica(cut=50)})  # type: ignore[arg-type]
    assert [sorted(one) for one in found] == [[], ["cut"], ["cut", "whole"]]
