"""Muon in float32: torch's own update to the rounding of bfloat16, inside its context alone."""

from __future__ import annotations

import pytest
import torch
from torch.optim import _muon

from dalign.train.muon import REPLACED, muon_in_float32, orthogonalised

COEFFICIENTS = (3.4445, -4.775, 2.0315)


@pytest.mark.parametrize("shape", [(128, 128), (96, 32), (32, 96)])
def test_an_update_is_torchs_to_the_rounding_of_bfloat16(shape: tuple[int, int]) -> None:
    grad = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    torchs = _muon._zeropower_via_newtonschulz(grad, COEFFICIENTS, 5, 1e-7)
    found = orthogonalised(grad, COEFFICIENTS, 5, 1e-7)
    assert found.dtype == torchs.dtype == torch.bfloat16
    assert found.shape == shape
    assert float((found.float() - torchs.float()).abs().max()) < 0.02 * float(torchs.float().abs().max())
    values = torch.linalg.svdvals(found.float())
    assert 0.2 < float(values[-1]) < float(values[0]) < 1.3


def test_a_gradient_of_zero_stays_zero() -> None:
    assert not orthogonalised(torch.zeros(4, 8), COEFFICIENTS, 5, 1e-7).any()


def test_it_replaces_torchs_inside_and_gives_it_back_after_a_failure() -> None:
    torchs = getattr(_muon, REPLACED)

    def train() -> None:
        with muon_in_float32(always=True) as replaced:
            assert replaced
            assert getattr(_muon, REPLACED) is orthogonalised
            raise RuntimeError("within")

    with pytest.raises(RuntimeError, match="within"):
        train()
    assert getattr(_muon, REPLACED) is torchs


def test_a_torch_that_names_it_otherwise_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(_muon, REPLACED)
    with muon_in_float32(always=True) as replaced:
        assert not replaced
