"""Selectors on a small table: who is taken, at which layer, and what a wrong spec is told."""

from __future__ import annotations

import numpy as np
import pytest

from dalign.errors import ConfigError
from dalign.select import SelectorInput, auto_layer, choose, headline, uniform_weights
from dalign.specs.sampling import SelectorSpec


@pytest.fixture
def table() -> SelectorInput:
    """Two prompts, three samples: the first prompt's sample 0 did not finish, none of the second's did."""
    return SelectorInput(
        scores={
            "kl": np.array([[9.0, 1.0, 2.0], [1.0, 2.0, 3.0]]),
            "similarity": np.array([[[1.0, 0.1], [1.0, 0.9], [1.0, 0.5]], [[1.0, 0.2], [1.0, 0.3], [1.0, 0.4]]]),
        },
        lengths_PN=np.array([[4, 9, 7], [3, 3, 5]]),
        finished_PN=np.array([[False, True, True], [False, False, False]]),
        exists_PN=np.ones((2, 3), dtype=bool),
    )


def chosen(table: SelectorInput, *, require_finished: bool = True) -> dict[tuple[str, int | None], list[list[float]]]:
    rows = list(choose(table, require_finished=require_finished))
    found = {(name, layer): weights.tolist() for name, layer, weights in rows}
    assert len(found) == len(rows), "two selectors share a name and layer"
    return found


def test_every_selector_is_there_once_a_layer(table: SelectorInput) -> None:
    assert set(chosen(table)) == {
        *((name, None) for name in ("first", "random", "shortest", "longest")),
        *((name, None) for name in ("kl_argmin", "kl_argmax")),
        *((f"similarity_{way}", layer) for way in ("argmin", "argmax") for layer in (0, 1)),
    }


def test_a_layer_that_was_not_asked_for_has_no_selector_and_is_no_headline(table: SelectorInput) -> None:
    table.scores["similarity"][..., 0] = np.nan
    layers = {layer for name, layer in chosen(table) if name.startswith("similarity")}
    assert layers == {1}
    assert headline(SelectorSpec(name="x", layer=1), table)[1] == 1
    with pytest.raises(ConfigError, match=r"attribution\.layers"):
        headline(SelectorSpec(name="x", layer=0), table)
    table.scores["similarity"][:] = np.nan
    assert {layer for name, layer in chosen(table) if name.startswith("similarity")} == {0, 1}, "nothing was scorable"


def test_only_finished_samples_are_chosen_from(table: SelectorInput) -> None:
    found = chosen(table)
    assert found["first", None][0] == [0, 1, 0]
    assert found["random", None][0] == [0, 0.5, 0.5]
    assert found["shortest", None][0] == [0, 0, 1]
    assert found["longest", None][0] == [0, 1, 0]
    assert found["kl_argmax", None][0] == [0, 0, 1]
    assert found["similarity_argmin", 1][0] == [0, 0, 1]
    assert found["similarity_argmax", 1][0] == [0, 1, 0]


def test_a_prompt_with_nothing_finished_is_its_own_outcome(table: SelectorInput) -> None:
    assert all(weights[1] == [0, 0, 0] for weights in chosen(table).values())


def test_without_require_finished_all_samples_drawn_compete(table: SelectorInput) -> None:
    found = chosen(table, require_finished=False)
    assert found["first", None] == [[1, 0, 0], [1, 0, 0]]
    assert found["kl_argmax", None] == [[1, 0, 0], [0, 0, 1]]
    assert found["shortest", None][1] == [0.5, 0.5, 0]


def test_a_sample_never_drawn_is_not_chosen(table: SelectorInput) -> None:
    missing = SelectorInput(table.scores, table.lengths_PN, np.ones((2, 3), bool), np.array([[False, True, True]] * 2))
    for require_finished in (True, False):
        assert all(weights[0][0] == 0 for weights in chosen(missing, require_finished=require_finished).values())


def test_the_placebo_layer_equals_random_selection_exactly(table: SelectorInput) -> None:
    found = chosen(table, require_finished=False)
    assert found["similarity_argmin", 0] == found["random", None] == uniform_weights(table.exists_PN).tolist()


@pytest.mark.parametrize(("depth", "layer"), [(1, 1), (2, 1), (3, 1), (4, 2), (8, 3), (15, 6), (16, 12), (28, 12)])
def test_auto_layer(depth: int, layer: int) -> None:
    assert auto_layer(depth) == layer


def test_headline_follows_its_spec(table: SelectorInput) -> None:
    assert headline(SelectorSpec(name="s", layer=1), table)[:2] == ("similarity_argmin", 1)
    name, layer, weights = headline(SelectorSpec(name="s", score="kl", direction="argmax"), table)
    assert (name, layer, weights[0].tolist()) == ("kl_argmax", None, [0, 0, 1])
    name, layer, weights = headline(SelectorSpec(name="s", score="first", require_finished=False), table)
    assert (name, layer, weights[0].tolist()) == ("first", None, [1, 0, 0])


def test_headline_auto_layer_of_one_layer_model_is_not_the_placebo(table: SelectorInput) -> None:
    assert headline(SelectorSpec(name="s"), table)[1] == 1


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (SelectorSpec(name="s", score="similarty"), "did you mean 'similarity'"),
        (SelectorSpec(name="s", layer=2), "0 \\(embeddings\\) to 1"),
        (SelectorSpec(name="s", score="kl", layer=1), "has no layers"),
    ],
)
def test_a_wrong_headline_is_told_so(table: SelectorInput, spec: SelectorSpec, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        headline(spec, table)


def test_tables_of_different_shapes_are_refused(table: SelectorInput) -> None:
    with pytest.raises(ValueError, match="kl"):
        SelectorInput({"kl": np.zeros((2, 4))}, table.lengths_PN, table.finished_PN, table.exists_PN)
    with pytest.raises(ValueError, match="finished_PN"):
        SelectorInput({}, table.lengths_PN, np.ones((1, 3), bool), table.exists_PN)
