"""The scores by hand on a vocabulary of two and three, and what is left out of them."""

from __future__ import annotations

import math

import pytest
import torch

from dalign.attribute import likelihood
from dalign.attribute.likelihood import FLAT_SCORES, response_scores, token_scores
from dalign.specs.sampling import FLAT

P, Q = torch.tensor([[0.5, 0.5], [0.8, 0.2]]), torch.tensor([[0.25, 0.75], [0.8, 0.2]])
LN2, LN3, LN4 = math.log(2), math.log(3), math.log(4)


def test_every_flat_score_of_the_configuration_exists() -> None:
    assert set(FLAT_SCORES) == set(FLAT)


def test_kl_by_hand() -> None:
    # 0.5 ln(0.5/0.25) + 0.5 ln(0.5/0.75) = 0.5 ln 2 + 0.5 ln(2/3)
    expected = 0.5 * LN2 + 0.5 * (LN2 - LN3)
    assert likelihood.kl(P.log(), Q.log()).tolist() == pytest.approx([expected, 0.0], abs=1e-6)


def test_kl_of_a_distribution_with_itself_is_exactly_zero() -> None:
    logits = torch.randn(5, 40).log_softmax(-1)
    assert likelihood.kl(logits, logits).tolist() == [0.0] * 5


def test_self_certainty_by_hand() -> None:
    # -(1/2) [ln(2 · 0.8) + ln(2 · 0.2)] = -(1/2) ln 0.64
    assert likelihood.self_certainty(P.log()).tolist() == pytest.approx([0.0, -0.5 * math.log(0.64)], abs=1e-6)


def test_gini_by_hand() -> None:
    assert likelihood.gini(P.log()).tolist() == pytest.approx([0.5, 1 - 0.64 - 0.04], abs=1e-6)


def test_all_scores_of_a_response_by_hand() -> None:
    values = token_scores(P.log(), Q.log(), torch.tensor([0, 1]), FLAT, vocab=2)
    found = response_scores(values, FLAT)
    kl, reverse = 0.5 * LN2 + 0.5 * (LN2 - LN3), 0.25 * -LN2 + 0.75 * (LN3 - LN2)
    assert found == pytest.approx(
        {
            "kl": kl / 2,
            "reverse_kl": reverse / 2,
            "ppl_student": math.exp(-(math.log(0.5) + math.log(0.2)) / 2),
            "ppl_base": math.exp(-(math.log(0.25) + math.log(0.2)) / 2),
            "self_certainty": -0.25 * math.log(0.64),
            "gini": (0.5 + 0.32) / 2,
            "logp_ratio": LN2 / 2,
        },
        abs=1e-6,
    )


def test_logits_need_not_be_normalised() -> None:
    shifted = token_scores(P.log() + 7.0, Q.log() - 3.0, torch.tensor([0, 1]), FLAT, vocab=2)
    torch.testing.assert_close(shifted, token_scores(P.log(), Q.log(), torch.tensor([0, 1]), FLAT, vocab=2))


def test_the_comparison_is_over_the_base_vocabulary_renormalised() -> None:
    added = torch.tensor([[0.4, 0.4, 0.2], [0.72, 0.18, 0.1]]).log()  # P on its first two ids, with an added row
    values = token_scores(added, Q.log(), torch.tensor([0, 1]), FLAT, vocab=2)
    torch.testing.assert_close(values, token_scores(P.log(), Q.log(), torch.tensor([0, 1]), FLAT, vocab=2))


def test_a_token_outside_the_vocabulary_counts_for_distributions_alone() -> None:
    values = token_scores(P.log(), Q.log(), torch.tensor([0, 2]), FLAT, vocab=2)
    found = response_scores(values, FLAT)
    assert found["ppl_student"] == pytest.approx(2.0)
    assert found["logp_ratio"] == pytest.approx(LN2)
    assert found["gini"] == pytest.approx(0.41)
    nowhere = response_scores(token_scores(P.log(), Q.log(), torch.tensor([2, 2]), ["ppl_base"], vocab=2), ["ppl_base"])
    assert math.isnan(nowhere["ppl_base"])


def test_perplexity_of_a_response_the_model_gives_no_chance_is_infinite() -> None:
    assert likelihood.perplexity(torch.tensor([-1e4])) == math.inf
    assert likelihood.perplexity(torch.tensor([-LN4, -LN4])) == pytest.approx(4.0)


def test_low_precision_logits_are_compared_in_float32() -> None:
    logits = torch.randn(3, 50, dtype=torch.bfloat16)
    exact = token_scores(logits.double().float(), logits.float(), torch.tensor([1, 2, 3]), FLAT, vocab=50)
    assert torch.equal(token_scores(logits, logits, torch.tensor([1, 2, 3]), FLAT, vocab=50), exact)


@pytest.mark.parametrize("rows", [1, 2, 3, 100])
def test_how_many_positions_are_taken_at_a_time_changes_nothing(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    student, base = torch.randn(7, 50), torch.randn(7, 50)
    tokens = torch.arange(7)
    whole = token_scores(student, base, tokens, FLAT, vocab=48)
    monkeypatch.setattr(likelihood, "CACHED_FLOATS", 48 * rows)
    torch.testing.assert_close(token_scores(student, base, tokens, FLAT, vocab=48), whole, rtol=1e-6, atol=1e-6)
