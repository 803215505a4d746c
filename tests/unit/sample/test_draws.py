"""Uniform streams, the inverse CDF at its edges, filters in their order, and seeds."""

from __future__ import annotations

import torch

from dalign.sample.draws import BLOCK, filters, pick, uniforms
from dalign.sample.engine import sample_seed
from dalign.specs.sampling import SamplerSpec


def test_a_row_of_uniforms_depends_on_its_seed_alone() -> None:
    rows = uniforms([5, 6, 2**63 - 1], 8)
    assert torch.equal(uniforms([6], 8)[0], rows[1])
    assert torch.equal(uniforms([6], 3)[0], rows[1, :3]), "a longer limit must not change the start"
    assert not torch.equal(rows[0], rows[1])
    assert rows.dtype == torch.float32
    assert ((rows >= 0) & (rows < 1)).all()


def test_the_streams_are_these_numbers_on_every_machine() -> None:
    found = [[round(u, 4) for u in row] for row in uniforms([0, 2**63 - 1], 3).tolist()]
    assert found == [[0.0347, 0.0115, 0.612], [0.9644, 0.9258, 0.851]]


def test_pick_inverts_the_cdf_by_hand() -> None:
    scores = torch.tensor([[0.5, 0.25, 0.25]]).log().repeat(5, 1)
    assert pick(scores, torch.tensor([0.0, 0.49, 0.51, 0.74, 0.76])).tolist() == [0, 0, 1, 1, 2]


def test_a_token_of_probability_zero_is_never_picked() -> None:
    inf = float("inf")
    scores = torch.tensor([[-inf, 0.0, -inf, 1.0, -inf]]).repeat(3, 1)
    nearly_one = 1.0 - 2.0**-24
    assert pick(scores, torch.tensor([0.0, 0.5, nearly_one])).tolist() == [1, 3, 3]
    assert pick(torch.zeros(1, 49152), torch.tensor([nearly_one])).item() < 49152


def test_seeds_are_a_function_of_run_prompt_and_index() -> None:
    assert sample_seed(0, "a", 1) == sample_seed(0, "a", 1)
    different = {sample_seed(r, p, i) for r in (0, 1) for p in ("a", "a1", "b") for i in (0, 1, 11)}
    assert len(different) == 18
    assert all(0 <= seed < 2**63 for seed in different)


def test_filters_follow_the_spec() -> None:
    everything = SamplerSpec(name="s", temperature=0.5, top_p=0.9, top_k=3, min_p=0.1, repetition_penalty=1.2)
    names = [type(one).__name__ for one in filters(everything)]
    assert names == [
        "RepetitionPenaltyLogitsProcessor",
        "TemperatureLogitsWarper",
        "TopKLogitsWarper",
        "TopPLogitsWarper",
        "MinPLogitsWarper",
    ]
    assert list(filters(SamplerSpec(name="s", temperature=1.0))) == []
    assert list(filters(SamplerSpec(name="s", temperature=0.0, top_k=3, top_p=0.5))) == []


def test_pick_over_a_large_vocabulary_is_the_inverse_cdf_in_float64() -> None:
    torch.manual_seed(0)
    scores_BV = torch.randn(64, 3 * BLOCK + 7) * 3
    scores_BV[:, BLOCK : 2 * BLOCK] = -torch.inf
    uniforms_B = torch.rand(64)
    uniforms_B[:2] = torch.tensor([0.0, 1.0])
    picked_B = pick(scores_BV, uniforms_B)
    cdf_BV = scores_BV.double().softmax(-1).cumsum(-1)
    rows = torch.arange(64)
    assert bool((scores_BV[rows, picked_B] > -torch.inf).all())
    high_B = cdf_BV[rows, picked_B]
    low_B = high_B - scores_BV.double().softmax(-1)[rows, picked_B]
    assert bool(((low_B - 1e-6 <= uniforms_B) & (uniforms_B <= high_B + 1e-6)).all())
