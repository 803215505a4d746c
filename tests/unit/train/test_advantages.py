"""Rewards to advantages: groups, unknown rewards, dead groups, rounding."""

from __future__ import annotations

import math

import pytest

from dalign.train.advantages import group_advantages, total_rewards


def test_a_group_is_centred_and_divided_by_its_spread() -> None:
    found = group_advantages([1.0, 0.0, 0.5, 0.5, 9.0, 9.0, 9.0, 9.0], 4)
    spread = math.sqrt(0.5 / 3)
    assert found.values[:4] == pytest.approx([0.5 / (spread + 1e-4), -0.5 / (spread + 1e-4), 0.0, 0.0])
    assert found.values[4:] == (0.0, 0.0, 0.0, 0.0)
    assert found.dead == (False, True)


def test_scales() -> None:
    rewards = [1.0, 0.0, 3.0, 1.0]
    assert group_advantages(rewards, 2, scale="none").values == (0.5, -0.5, 1.0, -1.0)
    spread = math.sqrt(sum((r - 1.25) ** 2 for r in rewards) / 3) + 1e-4
    assert group_advantages(rewards, 2, scale="batch").values == pytest.approx([v / spread for v in (0.5, -0.5, 1, -1)])


def test_what_has_no_reward_is_in_no_mean() -> None:
    """trl #5773: an unscorable completion must not shift the others' baseline."""
    found = group_advantages([1.0, None, 0.0, None, None, None, None, 2.0], 4, scale="none")
    assert found.values == (0.5, 0.0, -0.5, 0.0, 0.0, 0.0, 0.0, 0.0)
    assert found.known == (True, False, True, False, False, False, False, True)
    assert found.dead == (False, True)  # one reward alone is its own mean


def test_rounding_in_a_constant_group_is_no_advantage() -> None:
    """NeMo-RL PR #4161: a residue of float32 became an advantage of thousands."""
    found = group_advantages([0.1 + 0.2, 0.3, 0.3, 0.3], 4)
    assert found.values == (0.0, 0.0, 0.0, 0.0)
    assert found.dead == (True,)


def test_groups_stay_together() -> None:
    """GRPO-flat #2: rewards reshaped along the wrong axis mix groups."""
    found = group_advantages([0.0, 0.0, 1.0, 5.0, 5.0, 7.0], 3, scale="none")
    assert found.values == pytest.approx((-1 / 3, -1 / 3, 2 / 3, -2 / 3, -2 / 3, 4 / 3))
    with pytest.raises(ValueError, match="no whole groups of 4"):
        group_advantages([0.0] * 6, 4)


def test_totals_are_weighted_sums_of_what_applies() -> None:
    parts: dict[str, list[float | None]] = {"safe": [0.5, None, None], "finished": [1.0, 0.0, None]}
    assert total_rewards(parts, {"safe": 2.0, "finished": 0.5}) == [1.5, 0.0, None]
    with pytest.raises(ValueError, match="a reward of nan"):
        total_rewards({"safe": [math.nan]}, {"safe": 1.0})
