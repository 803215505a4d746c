"""Muon on a CPU that has no half-precision products.

torch orthogonalises Muon's updates in bfloat16. On a CPU without instructions for that (AVX2 alone) it multiplies
element by element: four fifths of the time that an embedded world's models take. bfloat16 numbers and their products
are float32 numbers too, so here each product is a float32 one, rounded once: what hardware with such instructions does,
in another order of sums.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.optim import _muon

REPLACED = "_zeropower_via_newtonschulz"


@contextmanager
def muon_in_float32(*, always: bool = False) -> Iterator[bool]:
    """Inside, Muon multiplies in float32 if this CPU wants that, or ``always``; yields whether it does.

    Changes nothing under a torch that names the function otherwise.
    """
    wanted = always or not torch.ops.mkldnn._is_mkldnn_bf16_supported()
    torchs = getattr(_muon, REPLACED, None)
    if torchs is None or not wanted:
        yield False
        return
    setattr(_muon, REPLACED, orthogonalised)
    try:
        yield True
    finally:
        setattr(_muon, REPLACED, torchs)


def orthogonalised(grad: Tensor, ns_coefficients: tuple[float, float, float], ns_steps: int, eps: float) -> Tensor:
    """``grad`` (A, B) with its singular values brought near 1, bfloat16: Newton-Schulz, ``X <- aX + (bS + cS²)X`` with
    ``S = XXᵀ`` (Jordan et al. 2024, Muon), each product rounded to bfloat16 as torch's is."""
    a, b, c = ns_coefficients
    x = grad.T if grad.shape[0] > grad.shape[1] else grad
    x = x.bfloat16()
    x = _rounded(x.float() / x.norm().clamp(min=eps).float())
    for _ in range(ns_steps):
        s = _rounded(x @ x.T)
        x = _rounded(torch.addmm(x, _rounded(torch.addmm(s, s, s, beta=b, alpha=c)), x, beta=a))
    return (x.T if grad.shape[0] > grad.shape[1] else x).bfloat16()


def _rounded(product: Tensor) -> Tensor:
    """float32 numbers that bfloat16 has."""
    return product.bfloat16().float()
