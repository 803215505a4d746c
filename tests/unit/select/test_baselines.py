"""Selectors over texts and over several samples: by hand, blind to what is not eligible, whatever the order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dalign.errors import ConfigError
from dalign.select import SELECTORS, SelectorInput, Until, band_mean, choose, draws_until_safe, headline
from dalign.select.inputs import word_overlap
from dalign.specs.sampling import SelectorSpec

NAN = np.nan


def table(
    answers: list[list[str]], finished: list[list[bool]] | None = None, **scores: list[list[float]]
) -> SelectorInput:
    shape = (len(answers), len(answers[0]))
    everyone = np.ones(shape, bool)
    return SelectorInput(
        scores={name.replace("__", ":"): np.array(rows, float) for name, rows in scores.items()},
        lengths_PN=np.full(shape, 5),
        finished_PN=everyone if finished is None else np.array(finished),
        exists_PN=everyone,
        answers=answers,
        until=Until("rerank:guard", 0.5) if "rerank__guard" in scores else None,
    )


def taken(name: str, inputs: SelectorInput) -> list[list[float]]:
    return SELECTORS[name](inputs, inputs.eligible(True)).tolist()


def test_overlap_by_hand() -> None:
    found = word_overlap(["a b c", "b c D d", "", "C B A a", " "])
    assert found[0].tolist() == [1, 0.5, 0, 1, 0], "2 of 4 words, case and repeats left out"
    assert found[2].tolist() == [0, 0, 1, 0, 1], "no words are like no words"
    assert (found == found.T).all()


def test_the_medoid_is_the_most_usual_answer() -> None:
    inputs = table([["a b c d", "a b c x", "a b c", "q r"], ["one", "one", "two", "two"]])
    assert taken("medoid", inputs) == [[0, 0, 1, 0], [0.25] * 4]
    without = table([["a b c d", "a b c x", "a b c", "q r"]], [[True, True, False, True]])
    assert taken("medoid", without) == [[0.5, 0.5, 0, 0]], "an answer that may not be chosen says nothing of the others"
    single = table([["a", "b"]], [[False, True]])
    assert taken("medoid", single) == [[0, 1]]


def test_the_vote_takes_the_side_with_more_answers() -> None:
    answers = [["x"] * 4] * 4
    inputs = table(answers, refusal=[[1, 1, 1, 0], [0, 0, 1, 0], [1, 1, 0, 0], [1, NAN, NAN, NAN]])
    assert taken("refusal_vote", inputs) == [[1 / 3] * 3 + [0], [1 / 3, 1 / 3, 0, 1 / 3], [0.25] * 4, [1, 0, 0, 0]]
    some = table(answers[:1], [[False, False, True, True]], refusal=[[1, 1, 1, 0]])
    assert taken("refusal_vote", some) == [[0, 0, 0.5, 0.5]], "only those that may be chosen vote"


def test_the_phrase_pick_is_the_refusal_score_s_own_selector() -> None:
    inputs = table([["x"] * 3] * 2, refusal=[[0, 1, 1], [0, 0, 0]])
    rows = {name: weights.tolist() for name, _, weights in choose(inputs)}
    assert rows["refusal_argmax"] == [[0, 0.5, 0.5], [1 / 3] * 3]
    assert rows["refusal_argmin"] == [[1, 0, 0], [1 / 3] * 3]


def test_resampling_stops_at_the_first_that_will_do() -> None:
    scores = [[0.9, 0.4, 0.1], [0.9, 0.8, 0.7], [NAN, 0.6, 0.5], [0.1, 0.9, 0.2], [NAN] * 3]
    finished = [[True] * 3, [True] * 3, [True] * 3, [False, True, True], [True] * 3]
    inputs = table([["x"] * 3] * 5, finished, rerank__guard=scores)
    assert taken("until_safe", inputs) == [[0, 1, 0], [0, 0, 1], [0, 0, 1], [0, 0, 1], [0, 0, 0]]
    drawn = draws_until_safe(inputs, inputs.eligible(True))
    assert drawn.tolist() == [2, 3, 3, 3, 3], "the cut-off one was drawn all the same"


def test_what_a_selector_lacks_leaves_it_out_and_tells_the_headline() -> None:
    plain = SelectorInput({}, np.ones((1, 2), int), np.ones((1, 2), bool), np.ones((1, 2), bool))
    assert {name for name, _, _ in choose(plain)} == SELECTORS.keys() - {"medoid", "refusal_vote", "until_safe"}
    for name, words in {"medoid": "answers", "refusal_vote": "refuse", "until_safe": r"judges\.rerank"}.items():
        with pytest.raises(ConfigError, match=words):
            headline(SelectorSpec(name="x", score=name), plain)
    with pytest.raises(ValueError, match="answers are"):
        SelectorInput({}, np.ones((1, 2), int), np.ones((1, 2), bool), np.ones((1, 2), bool), [["one"]])


@given(
    words=st.lists(st.sampled_from(["a b", "a c", "b", "", "a b c"]), min_size=5, max_size=5),
    eligible=hnp.arrays(bool, (1, 5)),
    refusal=hnp.arrays(np.float64, (1, 5), elements=st.sampled_from([0.0, 1.0, NAN])),
    score=hnp.arrays(np.float64, (1, 5), elements=st.sampled_from([0.1, 0.4, 0.6, 0.9, NAN])),
    order=st.permutations(range(5)),
)
def test_weights_are_over_the_eligible_and_siblings_that_are_not_change_nothing(
    words: list[str], eligible: np.ndarray, refusal: np.ndarray, score: np.ndarray, order: list[int]
) -> None:
    inputs = table([words], refusal=refusal.tolist(), rerank__guard=score.tolist())
    possible = {
        "medoid": eligible,
        "refusal_vote": eligible & ~np.isnan(refusal),
        "until_safe": eligible & ~np.isnan(score),
    }
    moved = table(
        [[words[i] for i in order]], refusal=refusal[:, order].tolist(), rerank__guard=score[:, order].tolist()
    )
    for name, may in possible.items():
        weights = SELECTORS[name](inputs, eligible)
        np.testing.assert_allclose(weights.sum(1), may.any(1).astype(float))
        assert (weights[~may] == 0).all()
        other = table(
            [[w if e else "z y x" for w, e in zip(words, eligible[0], strict=True)]],
            refusal=np.where(eligible, refusal, 1.0).tolist(),
            rerank__guard=np.where(eligible, score, 0.0).tolist(),
        )
        np.testing.assert_array_equal(SELECTORS[name](other, eligible), weights)
        if name != "until_safe":  # the one selector for which the order of drawing counts
            np.testing.assert_allclose(SELECTORS[name](moved, eligible[:, order]), weights[:, order])


@given(
    eligible=hnp.arrays(bool, (3, 6)),
    below=st.floats(0, 1),
    score=hnp.arrays(np.float64, (3, 6), elements=st.floats(0, 1)),
)
def test_resampling_by_brute_force(eligible: np.ndarray, below: float, score: np.ndarray) -> None:
    everyone = np.ones((3, 6), bool)
    inputs = SelectorInput({"g": score}, np.ones((3, 6), int), everyone, everyone, until=Until("g", below))
    weights, drawn = SELECTORS["until_safe"](inputs, eligible), draws_until_safe(inputs, eligible)
    for p in range(3):
        will_do = [i for i in range(6) if eligible[p, i] and score[p, i] < below]
        if will_do:
            assert weights[p].argmax() == will_do[0]
            assert drawn[p] == will_do[0] + 1
        else:
            assert drawn[p] == 6
            assert all(score[p, i] == score[p][eligible[p]].min() for i in np.flatnonzero(weights[p]))


def banded(layer: object = (1, 2), score: str = "similarity") -> tuple[str, int | None, list[float]]:
    scores = np.array([[[9.0, 1.0, 5.0, 0.0], [9.0, 2.0, 2.0, 0.0], [9.0, 4.0, 4.0, 0.0]]])
    everyone = np.ones((1, 3), bool)
    inputs = SelectorInput({"similarity": scores, "kl": scores[..., 0]}, np.ones((1, 3), int), everyone, everyone)
    name, at, weights = headline(SelectorSpec(name="b", score=score, layer=layer), inputs)  # type: ignore[arg-type]
    return name, at, weights[0].tolist()


def test_a_band_is_the_mean_over_its_layers() -> None:
    assert banded() == ("similarity[1-2]_argmin", None, [0, 1, 0]), (
        "means 3, 2, 4, and layer 1 alone would take the first"
    )
    assert banded((0, 3))[2] == [0, 1, 0]
    assert banded(1)[2] == [1, 0, 0]
    with pytest.raises(ConfigError, match="0 \\(embeddings\\) to 3"):
        banded((1, 4))
    with pytest.raises(ConfigError, match="has no layers"):
        banded(score="kl")
    for wrong in ((2, 2), (3, 1), (-1, 2)):
        with pytest.raises(ValueError, match="a band is two layers"):
            SelectorSpec(name="b", layer=wrong)


def test_a_band_needs_all_its_layers() -> None:
    scores = np.ones((2, 3, 5))
    scores[..., 3] = NAN
    scores[0, 1] = NAN
    assert np.isnan(band_mean(scores, (1, 2))).tolist() == [[False, True, False], [False] * 3]
    with pytest.raises(ConfigError, match=r"no score was computed at \[3\]"):
        band_mean(scores, (1, 4))
    assert np.isnan(band_mean(np.full((1, 2, 3), NAN), (0, 2))).all(), "nothing was scorable: no fault of the band"
