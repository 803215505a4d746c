"""Tokens and operations by hand, and rates at like cost."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from fake_run import informative, one, report_of, write_cell

from dalign.files import write_json
from dalign.report import write_report
from dalign.report.cost import PASSES, Passes, Work, cost_tables, needed, sampling, scoring, work
from dalign.report.tables import Report
from dalign.select import SELECTORS
from dalign.sizes import NAME, Sizes
from dalign.specs.sampling import FLAT, LAYERED, SelectorSpec

SIZES = Sizes(layers=4, layer_parameters=100, head_parameters=800)
LABELS = ["usss", "uuss", "suus", "ssus"]


def report(run: Path, sizes: Sizes | None = SIZES) -> Report:
    scores = {"similarity": informative(LABELS), "kl": np.random.default_rng(0).random((4, 4)), "odd": np.zeros((4, 4))}
    folder = write_cell(run, LABELS, scores=scores)
    if sizes:
        write_json(folder / NAME, asdict(sizes))
    return report_of(run)


def test_sampling_by_hand() -> None:
    """10 prompt tokens through 4 layers of 100 and the head once; 6 tokens a response through all of it."""
    drawn = sampling(SIZES, prompt=10, response=6)
    assert drawn.fixed == 2 * (400 * 10 + 800)
    assert drawn.each == 2 * (400 + 800) * 6
    assert drawn.at(3) == 9600 + 3 * 14400


def test_scoring_by_hand() -> None:
    """Similarity: both models, two layers of four, no head. KL: both, to the end, the head at responses alone."""
    layered = scoring(SIZES, 10, 6, Passes(2), layer=2)
    assert (layered.fixed, layered.each) == (2 * 2 * 200 * 10, 2 * 2 * 200 * 6)
    flat = scoring(SIZES, 10, 6, Passes(2, head=True), layer=None)
    assert (flat.fixed, flat.each) == (2 * 2 * 400 * 10, 2 * 2 * 1200 * 6)
    assert scoring(SIZES, 10, 6, Passes(0), None).at(9) == 0
    assert scoring(SIZES, 10, 6, Passes(2), layer=0).at(9) == 0, "embeddings run no layer"


def test_the_largest_k_within_a_budget() -> None:
    cost = Work(10, 5)
    assert [cost.affords(x) for x in (0, 14.9, 15, 24, cost.at(3))] == [0, 0, 1, 2, 3]


def test_every_score_that_an_evaluation_writes_has_a_cost() -> None:
    assert set(PASSES) >= {*LAYERED, *FLAT, "probe"}


def test_what_selectors_need() -> None:
    assert needed("similarity_think_argmax", 2) == (Passes(2), 2)
    assert needed("similarity[2-4]_argmin", None) == (Passes(2), 4), "a band goes up to its highest layer"
    for name in (*SELECTORS, "refusal_argmax", "mean"):
        assert needed(name, None) == (None if name == "until_safe" else Passes(0), None)
    for name in ("rerank:guard_argmin", "reward:rm_argmax"):
        assert needed(name, None) == (None, None), "nobody knows what a judge costs"


def test_rows_have_tokens_and_operations(tmp_path: Path) -> None:
    """Responses of 5, 6, 7, 8 tokens to prompts of 2: 6.5 a sample."""
    found = report(tmp_path / "r")
    cell = found.run.cells[0]
    assert cell.sizes == SIZES
    chosen = one(found, selector="similarity_argmin", layer=1)
    drawn, scored = sampling(SIZES, 2, 6.5), scoring(SIZES, 2, 6.5, Passes(2), 1)
    assert (chosen.tokens, chosen.flops) == (26.0, drawn.at(4) + scored.at(4))
    mean, random = one(found, selector="mean"), one(found, selector="random")
    assert (mean.tokens, mean.flops) == (6.5, drawn.at(1))
    assert (random.tokens, random.flops) == (26.0, drawn.at(4))
    assert one(found, selector="odd_argmin").flops is None, "nobody knows what it needs"
    assert one(found, selector="oracle_best").flops is None
    (at_2,) = [r for r in found.at_k if r.k == 2 and r.selector == "kl_argmax"]
    assert at_2.tokens == 13.0
    assert at_2.flops == drawn.at(2) + scoring(SIZES, 2, 6.5, PASSES["kl"], None).at(2)


def test_like_cost_buys_more_samples_without_scoring(tmp_path: Path) -> None:
    found = report(tmp_path / "r", Sizes(layers=4, layer_parameters=100, head_parameters=10))
    (table,) = cost_tables(found)
    assert len(table.head) == 2 + 3, "the headline at k = 1, 2 and 4"
    lines = {row[0]: row for row in table.rows}
    assert "odd_argmin" not in lines
    assert [cell.partition(", k = ")[2] for cell in lines["similarity_argmin"][2:]] == ["1", "2", "4"]
    cell = found.run.cells[0]
    own, random = work(cell, "similarity_argmin", 1), work(cell, "random", None)
    assert own is not None
    assert random is not None
    free = [random.affords(own.at(k)) for k in (1, 2, 4)]
    assert free[2] > 4
    assert lines["random"][4].endswith(f"k = 4 of {free[2]}")
    assert lines["kl_argmax"][2] == "–", "one sample and both heads cost more than the headline's one"


def test_unknown_sizes_are_told(tmp_path: Path) -> None:
    found = report(tmp_path / "r", sizes=None)
    assert one(found, selector="similarity_argmin", layer=1).flops is None
    assert one(found, selector="similarity_argmin", layer=1).tokens == 26.0
    assert cost_tables(found) == []
    text = write_report(tmp_path / "r", headline=SelectorSpec(name="bon", layer=1), seed=0).index_html.read_text()
    assert "so operations are unknown" in text


def test_a_known_size_is_not_told_as_unknown(tmp_path: Path) -> None:
    report(tmp_path / "r")
    text = write_report(tmp_path / "r", headline=SelectorSpec(name="bon", layer=1), seed=0).index_html.read_text()
    assert "so operations are unknown" not in text
    assert "at the k that like operations pay for" in text


def test_the_embedded_worlds_model_is_counted_without_its_adapter(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from dalign.models import load_model
    from dalign.sizes import read_sizes, record_sizes, sizes_of
    from dalign.specs.model import LoraSpec, ModelSpec

    spec = ModelSpec(name="toy", id="toy", dtype="float32", device="cpu", lora=LoraSpec(r=4, alpha=8))
    plain, adapted = load_model(spec), load_model(spec, new_lora=True)
    found = sizes_of(plain)
    assert found is not None
    assert sizes_of(adapted) == found
    config = plain.config
    attention = 2 * config.hidden_size**2 + 2 * config.hidden_size * config.num_key_value_heads * (
        config.hidden_size // config.num_attention_heads
    )
    matrices = attention + 3 * config.hidden_size * config.intermediate_size
    assert found.layers == config.num_hidden_layers
    assert matrices <= found.layer_parameters <= 1.02 * matrices, "and biases and norms"
    assert found.head_parameters == config.vocab_size * config.hidden_size
    record_sizes(tmp_path, adapted)
    assert read_sizes(tmp_path) == found
    plain.model.get_decoder().layers = None
    assert sizes_of(plain) is None, "an architecture that keeps its layers elsewhere can be sampled all the same"
