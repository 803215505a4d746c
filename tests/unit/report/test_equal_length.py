"""Choices at equal length: by hand, where there is nothing to find, the ends of the lengths, what the report shows."""

from __future__ import annotations

import csv
from pathlib import Path

import fake_run
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dalign.files import read_records, write_json
from dalign.records import Prompt, Sample
from dalign.report import write_report
from dalign.report.equal_length import equal_siblings, extreme_shares, length_gaps
from dalign.report.equal_length_tables import equal_length_tables
from dalign.scores_file import write_scores
from dalign.select.rank import arg_weights, uniform_weights
from dalign.specs.sampling import SelectorSpec

LENGTHS = np.array([[20, 22, 23, 40]])
UNSAFE = np.array([[1.0, 0.0, 1.0, 0.0]])
OPEN = np.ones((1, 4), dtype=bool)


def gaps(choice: list[float], lengths: np.ndarray = LENGTHS, finished: np.ndarray = OPEN) -> tuple[float, float]:
    near = equal_siblings(lengths, finished)
    found = length_gaps(np.array([[choice]], dtype=float), UNSAFE, np.ones_like(OPEN), near)
    return float(found.matched[0, 0]), float(found.plain[0, 0])


def test_siblings_by_hand() -> None:
    """A tenth of 20 reaches 22, of 22 both neighbours, of 23 only 22; 40 is alone."""
    near = equal_siblings(LENGTHS, OPEN)[0].astype(int).tolist()
    assert near == [[0, 1, 0, 0], [1, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0]]
    cut = equal_siblings(LENGTHS, np.array([[True, False, True, True]]))
    assert not cut.any(), "one that is not finished is nobody's sibling and has none"


def test_a_tenth_is_a_tenth_whatever_the_rounding() -> None:
    for length in range(10, 500, 10):
        lengths = np.array([[length, length + length // 10, length + length // 10 + 1]])
        assert equal_siblings(lengths, np.ones((1, 3), dtype=bool))[0, 0].tolist() == [False, True, False]


def test_gaps_by_hand() -> None:
    assert gaps([1, 0, 0, 0]) == (1.0, 0.5), "unsafe beside a safe one; one answer is unsafe by half"
    assert gaps([0, 1, 0, 0]) == (-1.0, -0.5), "safe beside two unsafe ones"
    assert gaps([0.5, 0.5, 0, 0]) == (0.0, 0.0)
    assert gaps([0.5, 0, 0, 0.5]) == (1.0, 0.5), "what has no sibling of its length drops out of a shared choice"
    assert np.isnan(gaps([0, 0, 0, 1])).all()
    assert np.isnan(gaps([0, 0, 0, 0])).all()


@given(
    amount=hnp.arrays(float, (3, 6), elements=st.sampled_from([0.0, 0.25, 1.0])),
    scored=hnp.arrays(bool, (3, 6)),
    lengths=st.sampled_from([1, 7, 400]),
)
def test_a_choice_at_random_gains_nothing_among_equal_lengths(
    amount: np.ndarray, scored: np.ndarray, lengths: int
) -> None:
    near = equal_siblings(np.full((3, 6), lengths), scored)
    found = length_gaps(uniform_weights(scored)[None], np.where(scored, amount, 0.0), scored, near)
    several = scored.sum(axis=1) > 1
    assert (np.isnan(found.matched[0]) == ~several).all()
    assert (found.matched[0][several] == 0).all()
    assert (found.plain[0][several] == 0).all()


@given(st.data())
def test_gaps_follow_their_definition(data: st.DataObject) -> None:
    """Written out sample by sample."""
    n = data.draw(st.integers(2, 6))
    lengths = data.draw(st.lists(st.integers(1, 30), min_size=n, max_size=n))
    amount = data.draw(st.lists(st.sampled_from([0.0, 1.0]), min_size=n, max_size=n))
    able = data.draw(st.lists(st.booleans(), min_size=n, max_size=n))
    scores = data.draw(st.lists(st.sampled_from([0.0, 1.0, 2.0]), min_size=n, max_size=n))
    weights = arg_weights(np.array([scores]), np.array([able]), "argmin")
    terms = []
    for i in np.flatnonzero(weights[0]):
        others = [j for j in range(n) if j != i and able[j] and 10 * abs(lengths[j] - lengths[i]) <= lengths[i]]
        if others:
            terms.append(amount[i] - sum(amount[j] for j in others) / len(others))
    near = equal_siblings(np.array([lengths]), np.array([able]))
    found = length_gaps(weights[None], np.array([amount]), np.ones((1, n), dtype=bool), near).matched[0, 0]
    assert np.isnan(found) if not terms else found == pytest.approx(sum(terms) / len(terms), abs=1e-11)


def test_the_ends_of_the_lengths_by_hand() -> None:
    lengths, finished = np.array([[5, 9, 9, 12]] * 2), np.array([[True, True, True, False], [False] * 4])
    weights = np.array([[[0, 1.0, 0, 0]] * 2, [[0.5, 0.5, 0, 0]] * 2, [[0, 0, 0, 1.0]] * 2])
    longest = extreme_shares(weights, lengths, finished, longest=True)
    shortest = extreme_shares(weights, lengths, finished, longest=False)
    assert longest.chosen[:, 0].tolist()[:2] == [1.0, 0.5], "12 was cut off, so 9 is the most"
    assert shortest.chosen[:, 0].tolist()[:2] == [0.0, 0.5]
    assert (longest.by_chance[0], shortest.by_chance[0]) == pytest.approx((2 / 3, 1 / 3))
    assert np.isnan(longest.chosen[2]).all(), "a choice that did not finish is none of these"
    assert np.isnan(longest.chosen[:, 1]).all()


RNG = np.random.default_rng(7)
WORDS = ["".join(RNG.choice(list("us"), 6)) for _ in range(30)]


def follows(index: float) -> np.ndarray:
    """A score by layer, least for the sample of highest index, which is the longest one."""
    return np.tile(-index * np.arange(6.0), (30, 1))[..., None].repeat(2, axis=2)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = fake_run.write_cell(tmp_path / "r", WORDS, scores={"similarity": follows(1.0), "kl": RNG.random((30, 6))})
    (folder / "protocols").mkdir()
    write_json(folder / "protocols" / "asked.json", {"schema": 1, "asked": ["pad_position"]})
    prompts = read_records(folder / "prompts.parquet", Prompt)
    samples = read_records(folder / "samples.parquet", Sample)
    padded = fake_run.score_records(samples, {"similarity": follows(-1.0)})
    write_scores(folder / "protocols" / "pad_position.safetensors", prompts, samples, padded, base=fake_run.BASE)
    return tmp_path / "r"


def test_the_report_tells_what_follows_the_length(run: Path) -> None:
    """Lengths are 5 to 10 tokens: the longest has siblings of 9 (a tenth of 10), the shortest none."""
    report = fake_run.report_of(run)
    unsafe = np.array([[c == "u" for c in word] for word in WORDS], float)
    row = fake_run.one(report, selector="similarity_argmin", layer=1)
    assert (row.chosen_longest, row.chosen_longest_by_chance) == (1.0, pytest.approx(1 / 6))
    assert (row.chosen_shortest, row.chosen_shortest_by_chance) == (0.0, pytest.approx(1 / 6))
    assert row.equal_length_prompts == 30
    assert row.equal_length_difference == pytest.approx((unsafe[:, 5] - unsafe[:, 4]).mean())
    assert row.equal_length_plain == pytest.approx((unsafe[:, 5] - unsafe.mean(axis=1)).mean())
    assert row.equal_length_plain == pytest.approx(row.difference), "every prompt has siblings here"
    assert row.equal_length_difference_ci_low is not None
    assert row.equal_length_difference_ci_high is not None
    assert row.equal_length_difference_ci_low < row.equal_length_difference < row.equal_length_difference_ci_high
    assert fake_run.one(report, selector="similarity_argmax", layer=1).equal_length_prompts == 0
    assert fake_run.one(report, selector="similarity_argmax", layer=1).equal_length_difference is None
    assert fake_run.one(report, selector="similarity_argmin", layer=0).equal_length_prompts is None, "not shown"
    assert fake_run.one(report, selector="mean").chosen_longest is None
    chance = fake_run.one(report, selector="random")
    assert chance.chosen_longest == chance.chosen_longest_by_chance


def test_the_table_has_the_protocols_choice_as_well(run: Path) -> None:
    (table,) = equal_length_tables(fake_run.report_of(run))
    lines = {row[0]: row for row in table.rows}
    assert lines["longest"][2:7] == lines["similarity_argmin"][2:7]
    assert lines["similarity_argmin"][6].startswith("100 [")
    assert lines["similarity_argmin"][6].endswith("] / 17")
    padded = lines["similarity_argmin, pad_position"]
    assert (padded[4], padded[5]) == ("–", "0")
    assert padded[6].startswith("0 [")
    assert padded[7].startswith("100 [")
    assert "mean" not in lines


def test_it_is_in_the_page_and_in_the_csv(run: Path) -> None:
    paths = write_report(run, headline=SelectorSpec(name="bon", layer=1), seed=0)
    page = paths.index_html.read_text()
    assert '<h2 id="equal_length">At equal length</h2>' in page
    assert 'href="#equal_length"' in page
    with paths.results_csv.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    told = [r for r in rows if (r["selector"], r["layer"], r["k"]) == ("similarity_argmin", "1", "6")]
    assert {(r["protocol"], r["chosen_longest"]) for r in told} >= {("pad_position", "0.0"), ("corrected", "1.0")}


def test_responses_without_lengths_and_single_samples_have_no_such_table(tmp_path: Path) -> None:
    fake_run.write_cell(tmp_path / "r", ["u", "s"], scores={"kl": np.zeros((2, 1))})
    report = fake_run.report_of(tmp_path / "r", score="kl", layer=None)
    assert equal_length_tables(report) == []
