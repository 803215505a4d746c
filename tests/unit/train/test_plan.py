"""The plan: every example once an epoch, few shapes, the same on every machine."""

from __future__ import annotations

import random

import pytest

from dalign.specs.stage import DistillStage
from dalign.train.examples import Example
from dalign.train.plan import MicroBatch, learning_rate, make_plan, micro_batches


def test_each_epoch_is_a_permutation_of_its_own() -> None:
    plan = make_plan(10, batch=4, epochs=3, max_steps=None, seed=0)
    assert [len(s) for s in plan.steps] == [4, 4, 2] * 3
    assert plan.epochs == (0, 0, 0, 1, 1, 1, 2, 2, 2)
    orders = [[i for s in plan.steps[3 * e : 3 * e + 3] for i in s] for e in range(3)]
    assert all(sorted(order) == list(range(10)) for order in orders)
    assert orders[0] != orders[1] != orders[2]


def test_the_plan_depends_on_the_seed_alone_and_max_steps_cuts_it() -> None:
    plan = make_plan(10, batch=4, epochs=2, max_steps=None, seed=1)
    assert plan == make_plan(10, batch=4, epochs=2, max_steps=None, seed=1)
    assert plan != make_plan(10, batch=4, epochs=2, max_steps=None, seed=2)
    cut = make_plan(10, batch=4, epochs=2, max_steps=4, seed=1)
    assert (cut.steps, cut.epochs) == (plan.steps[:4], plan.epochs[:4])
    assert make_plan(5, batch=5, epochs=1, max_steps=None, seed=0).steps == ((4, 1, 2, 3, 0),)  # on every machine


def test_the_digest_sees_the_tokens_and_their_order() -> None:
    examples = [Example(str(i), str(i), (1, 2, i), 1) for i in range(4)]
    plan = make_plan(4, batch=2, epochs=1, max_steps=None, seed=0)
    other = make_plan(4, batch=2, epochs=1, max_steps=None, seed=3)
    changed = [*examples[:3], Example("3", "3", (1, 9, 3), 1)]
    digests = {plan.digest(examples), other.digest(examples), plan.digest(changed)}
    assert len(digests) == 3


def test_micro_batches_by_hand() -> None:
    lengths = [5, 17, 9, 8, 3]
    found = micro_batches([0, 1, 2, 3, 4], lengths, bucket=8, max_tokens=48, context=100)
    # width 24 fits two rows of 48; then 8 and 5 and 3 fit width 8, six at most: a power of two is 2, then 1
    assert found == (MicroBatch((1, 2), 24), MicroBatch((3, 0), 8), MicroBatch((4,), 8))
    assert micro_batches([1], lengths, bucket=8, max_tokens=4, context=20) == (MicroBatch((1,), 20),)


def test_micro_batches_hold_every_row_once_within_the_budget_in_few_shapes() -> None:
    rng = random.Random(0)
    lengths = [min(1024, int(rng.lognormvariate(5.7, 0.5))) for _ in range(2000)]
    shapes = set()
    for start in range(0, 2000, 16):
        rows = list(range(start, start + 16))
        found = micro_batches(rows, lengths, bucket=128, max_tokens=4096, context=1024)
        assert sorted(r for m in found for r in m.rows) == rows
        for m in found:
            assert max(lengths[r] for r in m.rows) <= m.width
            assert len(m.rows) * m.width <= 4096
            shapes.add((len(m.rows), m.width))
    assert len(shapes) <= 24


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [0.5, 1.0, 1.0, 1.0, 1.0, 1.0]),
        ("linear", [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]),
        ("cosine", [0.5, 1.0, 1.0, 0.8535534, 0.5, 0.1464466]),
    ],
)
def test_learning_rates_by_hand(schedule: str, expected: list[float]) -> None:
    stage = DistillStage(lr=1.0, schedule=schedule, warmup=1 / 3)  # two of six steps warm up
    assert [learning_rate(stage, s, 6) for s in range(6)] == pytest.approx(expected)
