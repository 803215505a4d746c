"""The refusal direction: by hand, its projections, what has no difference or no state, and its file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dalign.errors import ArtifactError, DataError
from dalign.specs.probe import Variant, variant_of
from dalign.specs.stage import ProbeStage
from dalign.train.direction import Direction, refusal_direction
from dalign.train.features import Features
from dalign.train.probe import projected
from dalign.train.probe_figures import Scale, probe_entry
from dalign.train.rows import Rows

HARMFUL = np.array([True, True, False, False])
# Layer 0 is the same for all; at layer 1 the means are (4, 1) and (1, -3), so (3, 4) apart.
STATES = torch.tensor([[[2, 2], [5, 0]], [[2, 2], [3, 2]], [[2, 2], [1, -3]], [[2, 2], [1, -3]]], dtype=torch.float32)


def test_a_difference_of_means_by_hand() -> None:
    found = refusal_direction(Features(STATES), HARMFUL).direction_LD
    assert found[0].tolist() == [0, 0], "no difference is no direction, whatever rounding leaves"
    assert found[1].tolist() == pytest.approx([0.6, 0.8])
    turned = refusal_direction(Features(STATES), ~HARMFUL).direction_LD
    assert torch.equal(turned, -found)


def test_rounding_is_no_direction_and_a_small_difference_is_one() -> None:
    generator = torch.Generator().manual_seed(0)
    same = torch.rand(1, 1, 8, generator=generator).repeat(7, 1, 1)
    kinds = np.arange(7) < 3
    assert refusal_direction(Features(same), kinds).direction_LD.abs().max() == 0
    same[:3, 0, 2] += 1e-3
    assert refusal_direction(Features(same), kinds).direction_LD[0].tolist() == pytest.approx(
        [0, 0, 1, *[0] * 5], abs=1e-3
    )


def test_prompts_without_states_take_no_part() -> None:
    holed = torch.cat([STATES, torch.full((1, 2, 2), torch.nan)])
    for kind in (True, False):
        found = refusal_direction(Features(holed), np.append(HARMFUL, kind))
        assert torch.equal(found.direction_LD, refusal_direction(Features(STATES), HARMFUL).direction_LD)


def test_projections_by_hand_and_of_a_difference() -> None:
    direction = Direction(torch.tensor([[0.0, 0.0], [0.6, 0.8]]))
    states = torch.tensor([[[9.0, 9.0], [5.0, 0.0]], [[1.0, 1.0], [0.0, 10.0]], [[1.0, 1.0], [torch.nan, 0.0]]])
    assert direction.project(states)[:2].tolist() == [[0, 3], [0, 8]]
    of_features = direction.project_features(Features(states))
    assert of_features[:2].tolist() == [[0, pytest.approx(3)], [0, pytest.approx(8)]]
    assert np.isnan(of_features[2]).all()
    less = direction.project_features(Features(states[:2], states[:2].flip(0), torch.tensor([1, 0, 1])))
    assert less[:, 1].tolist() == pytest.approx([5, -5, 5])


@given(st.integers(0, 10_000), st.floats(0.01, 100))
def test_a_score_moves_by_what_its_state_moves_along_and_no_scale_of_prompts_matters(seed: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    prompts = torch.randn(6, 2, 5, generator=generator)
    kinds = np.arange(6) % 2 == 0
    found = refusal_direction(Features(prompts), kinds)
    assert torch.linalg.vector_norm(found.direction_LD, dim=1).tolist() == pytest.approx([1, 1], abs=1e-5)
    shifted = refusal_direction(Features(scale * prompts + 3), kinds)
    torch.testing.assert_close(shifted.direction_LD, found.direction_LD, atol=1e-3, rtol=1e-3)
    states = torch.randn(4, 2, 5, generator=generator)
    moved = found.project(states + 2 * found.direction_LD)
    torch.testing.assert_close(moved, found.project(states) + 2, atol=1e-4, rtol=1e-4)


def test_a_saved_direction_comes_back_and_another_file_is_refused(tmp_path: Path) -> None:
    direction = refusal_direction(Features(STATES), HARMFUL)
    direction.save(tmp_path / "d")
    assert torch.equal(Direction.load(tmp_path / "d").direction_LD, direction.direction_LD)
    (tmp_path / "other").write_bytes(b"nothing")
    for name in ("other", "absent"):
        with pytest.raises(ArtifactError, match=f"{name}: not a refusal direction"):
            Direction.load(tmp_path / name)


def rows_of(labels: list[float]) -> Rows:
    n = len(labels)
    names = tuple(f"p{i // 2}" for i in range(n))
    return Rows(np.array(labels), names, names, ("b",) * n, ((1,),) * n, ((1,),) * n, ("",) * n, (True,) * n)


def test_its_entry_of_the_table_knows_labels_only_to_measure() -> None:
    """The unsafe one of each prompt goes less far along the direction: its figures are those of the opposite."""
    along = torch.tensor([1.0, 2.0, 3.0, 5.0, -1.0, 0.0])
    states = torch.stack([torch.zeros(6, 2), torch.stack([along, torch.ones(6)], dim=1)], dim=1)
    direction = Direction(torch.tensor([[0.0, 0.0], [1.0, 0.0]]))
    rows, flipped = rows_of([1, 0, 1, 0, 1, 0]), rows_of([0, 1, np.nan, 1, 0, 1])
    found = projected(Features(states), rows, direction, folds=3, seed=0)
    assert found.oof_XL[:, 1].tolist() == along.tolist()
    again = projected(Features(states), flipped, direction, folds=3, seed=0)
    assert np.array_equal(found.oof_XL, again.oof_XL), "labels move nothing"
    entry = probe_entry("refusal_direction:student-content", found, None, Scale(rows, seed=0), layer=1)
    assert entry["figures"]["auroc_within"] == 1.0
    assert entry["figures"]["ece"] is None
    assert entry["auroc_within"] == [0.5, 1.0], "layer 0 has no direction: chance, exactly"
    assert (entry["left_out"], entry["unconverged_layers"]) == ({}, [])
    with pytest.raises(DataError, match="fewer than folds"):
        projected(Features(states), rows, direction, folds=4, seed=0)


def test_its_score_has_a_name_of_its_own() -> None:
    stage = ProbeStage(methods=("logistic", "refusal_direction"), inputs=("student",), poolings=("content", "mean"))
    assert list(stage.variants("content")) == [
        "probe",
        "probe:logistic-student-content",
        "probe:logistic-student-mean",
        "refusal_direction:student-content",
        "refusal_direction:student-mean",
    ]
    for name, variant in stage.variants("content").items():
        assert variant_of(name, "content") == variant
    assert variant_of("probe:refusal_direction-student-mean", "content") is None
    assert Variant("refusal_direction", "student", "mean").name == "refusal_direction-student-mean"


def test_the_number_of_prompts_names_a_folder_only_where_it_is_another() -> None:
    assert "direction_prompts" not in ProbeStage().results()
    assert ProbeStage(direction_prompts=8).results()["direction_prompts"] == 8
