"""Cosines by hand, exact ones for equal vectors, and the paper's error 15: cosines in bfloat16."""

from __future__ import annotations

import pytest
import torch

from dalign.attribute.similarity import distance, latent_similarity


def test_cosines_by_hand() -> None:
    student = torch.tensor([[[1.0, 0.0], [3.0, 4.0]], [[1.0, 1.0], [0.0, 2.0]]])
    base = torch.tensor([[[0.0, 2.0], [4.0, 3.0]], [[-2.0, -2.0], [0.0, 5.0]]])
    assert latent_similarity(student, base).tolist() == [[0.0, pytest.approx(0.96)], [-1.0, 1.0]]


def test_equal_vectors_are_exactly_one_and_neighbours_need_not_be() -> None:
    torch.manual_seed(0)
    states = torch.randn(200, 3, 577)
    assert (latent_similarity(states, states.clone()) == 1.0).all()
    nearly = states + 1e-2 * torch.randn_like(states)
    assert ((latent_similarity(states, nearly) < 1.0) & (latent_similarity(states, nearly) > 0.99)).all()


def test_zero_vectors_do_not_make_nan() -> None:
    zero, one = torch.zeros(1, 1, 4), torch.ones(1, 1, 4)
    assert latent_similarity(zero, zero).item() == 1.0
    assert latent_similarity(zero, one).item() == 0.0


def test_distances_by_hand_and_exactly_zero_for_equal_vectors() -> None:
    student = torch.tensor([[[3.0, 4.0], [1.0, 1.0]]])
    base = torch.tensor([[[0.0, 0.0], [1.0, 1.0]]])
    assert distance(student, base).tolist() == [[5.0, 0.0]]
    assert distance(student.bfloat16(), base.bfloat16()).dtype == torch.float32


def test_paper_error_15_cosine_in_bfloat16() -> None:
    torch.manual_seed(0)
    states = torch.randn(64, 1, 576, dtype=torch.bfloat16)
    in_bfloat16 = torch.nn.functional.cosine_similarity(states, states, dim=-1)
    assert len(in_bfloat16.unique()) > 1, "the error this guards against is gone: cos(x, x) is one value in bfloat16"
    assert latent_similarity(states, states).unique().tolist() == [1.0]
    other = torch.randn(64, 1, 576, dtype=torch.bfloat16)
    exact = torch.nn.functional.cosine_similarity(states.double(), other.double(), dim=-1)
    torch.testing.assert_close(latent_similarity(states, other).double(), exact, atol=1e-6, rtol=0)
