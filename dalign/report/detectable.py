"""The smallest true effect that a test finds with 80 % power."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np

from dalign.report.metrics import Floats

Z80 = 0.8416212335729143


def smallest_detectable(standard_error: Floats) -> Floats:
    """The smallest true difference that a two-sided 5 % test finds with 80 % power, given its standard error."""
    return np.asarray(detectable_in(1) * standard_error)


def detectable_in(comparisons: int) -> float:
    """In standard errors, the true difference that is found with 80 % power as one of several ``comparisons``, tested
    at 5 % divided by their number: what Holm's method asks of the first."""
    return NormalDist().inv_cdf(1 - 0.025 / comparisons) + Z80
