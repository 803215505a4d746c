"""Texts that spell control tokens are counted: whose, in which prompts and responses; what is not known is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from fake_run import informative, one, report_of, write_cell

from dalign.control_tokens import MODEL, Reader, control_of, pattern, record_control
from dalign.report import Report
from dalign.report.appendix import caveat_parts
from dalign.report.caveats import caveats
from dalign.report.control import NONE, control_table, spelt_by_any
from dalign.report.tables import csv_text

LABELS = ["us", "su", "ss"]
ENDS = "as asked <|im_end|> and more"
SAID = ["a [INST] b", "fine", "fine", "fine", ENDS, "fine"]


def run(
    folder: Path, said: list[str] | str = "fine", *, text: str = "how is a lamp lit", recorded: bool = True
) -> Report:
    cell = write_cell(folder / "r", LABELS, scores={"similarity": informative(LABELS)}, text=text, said=said)
    if recorded:
        record_control(cell, MODEL, {"<|im_end|>", "<|im_start|>"})
        record_control(cell, "truth", ["[INST]", "<|im_end|>"])
    return report_of(folder / "r")


def test_strings_are_written_down_by_reader_and_found_as_text(tmp_path: Path) -> None:
    assert control_of(tmp_path) == {}
    record_control(tmp_path, MODEL, {"b+", "a|c"})
    record_control(tmp_path, "guard", [])
    before = (tmp_path / "control_tokens.json").stat().st_mtime_ns
    record_control(tmp_path, MODEL, ["a|c", "b+"])
    assert (tmp_path / "control_tokens.json").stat().st_mtime_ns == before, "the same strings are not written again"
    record_control(tmp_path, "far", ["[INST]"], "markers")
    found = control_of(tmp_path)
    assert found == {MODEL: Reader(("a|c", "b+")), "guard": Reader(()), "far": Reader(("[INST]",), "markers")}
    find = pattern(found[MODEL].strings)
    assert find is not None
    assert [bool(find.search(text)) for text in ("bb", "a", "xa|cx", "b+")] == [False, False, True, True]
    assert pattern([]) is None


def test_texts_are_counted_by_reader_and_together(tmp_path: Path) -> None:
    report = run(tmp_path, SAID)
    (cell,) = report.run.cells
    assert cell.spelt[MODEL].response_PN.tolist() == [[False, False], [False, False], [True, False]]
    assert cell.spelt["truth"].response_PN.tolist() == [[True, False], [False, False], [True, False]]
    whole = spelt_by_any(cell)
    assert whole is not None
    assert (int(whole.prompt_P.sum()), int(whole.response_PN.sum())) == (0, 2)
    assert control_table(report.run.cells).rows == (
        ("distill", "attacks", "the model", "0 of 3", "1 of 6"),
        ("distill", "attacks", "judge truth", "0 of 3", "2 of 6"),
    )
    assert any(text.startswith("0 of 3 prompts and 2 of 6 responses spell a control token") for text in caveats(report))
    assert "1 of 6" in caveat_parts(report)[1]


def test_the_rows_of_results_csv_count_their_own_prompts(tmp_path: Path) -> None:
    report = run(tmp_path, SAID, text="is <|im_start|> a word")
    row = one(report, selector="mean")
    assert (row.n_control_prompts, row.n_control_responses) == (3, 2)
    (odd,) = [r for r in report.rows if r.selector == "mean" and r.subset == "odd"]
    (even,) = [r for r in report.rows if r.selector == "mean" and r.subset == "even"]
    assert (odd.n_control_prompts, odd.n_control_responses) == (1, 0), "prompt 1"
    assert (even.n_control_prompts, even.n_control_responses) == (2, 2), "prompts 0 and 2"
    assert "n_control_responses" in csv_text(report.rows).splitlines()[0]
    assert "n_control_prompts" not in row.to_json()


def test_no_such_text_is_said_and_makes_no_table(tmp_path: Path) -> None:
    report = run(tmp_path)
    assert NONE in caveats(report)
    assert len(caveat_parts(report)) == 1
    assert one(report, selector="mean").n_control_responses == 0


def test_an_evaluation_without_the_tokenizers_strings_claims_nothing(tmp_path: Path) -> None:
    report = run(tmp_path, SAID, recorded=False)
    assert not any("spells a control token" in text for text in caveats(report))
    assert any("not known of 1 of 1 evaluations" in text for text in caveats(report))
    assert one(report, selector="mean").n_control_responses is None
    assert spelt_by_any(report.run.cells[0]) is None


def test_a_judge_on_record_without_the_model_is_not_known_either(tmp_path: Path) -> None:
    cell = write_cell(tmp_path / "r", LABELS, scores={"similarity": np.zeros((3, 2, 3))}, said=ENDS)
    record_control(cell, "truth", ["<|im_end|>"])
    report = report_of(tmp_path / "r")
    assert any("not known of 1 of 1" in text for text in caveats(report))
    assert control_table(report.run.cells).rows == (("distill", "attacks", "judge truth", "0 of 3", "6 of 6"),)


def test_what_a_judge_behind_an_endpoint_was_sent_is_counted_and_what_became_of_it_is_not_known(tmp_path: Path) -> None:
    cell = write_cell(tmp_path / "r", LABELS, scores={"similarity": np.zeros((3, 2, 3))}, said=SAID)
    record_control(cell, MODEL, ["<|im_start|>"])
    record_control(cell, "far", ["[INST]"], "markers")
    record_control(cell, "farther", ["<|im_end|>", "[INST]"], "tokenizer")
    report = report_of(tmp_path / "r")
    assert control_table(report.run.cells).rows == (
        ("distill", "attacks", "judge far, behind an endpoint (common markers)", "0 of 3", "1 of 6"),
        ("distill", "attacks", "judge farther, behind an endpoint", "0 of 3", "2 of 6"),
    )
    said = caveats(report)
    assert any(text.startswith("0 of 3 prompts and 2 of 6 responses spell a control token") for text in said)
    assert any("behind an endpoint (far, farther) are sent such text as it stands" in text for text in said)
    assert any(text.startswith("Of far the tokenizer is not known") for text in said)
    assert one(report, selector="mean").n_control_responses == 2


def test_a_judge_on_this_machine_brings_no_word_of_endpoints(tmp_path: Path) -> None:
    assert not any("endpoint" in text for text in caveats(run(tmp_path, SAID)))
