"""How large a report's page is, how long it takes to make and to open: python bench/report.py [--json FILE]

The peer, in the same run: the page without its samples. Measuring is what both share: reading the run's files, rates,
intervals and figures. Opening is timed in headless Chromium, where there is one, from the start of loading to the drawn
list of prompts; a filter and a search over all texts are timed after it. Texts are random letters, which pack worse
than sentences do.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "unit" / "report"))

import chromium
import fake_run

from dalign.report import build_report
from dalign.report.figures import draw_figures
from dalign.report.html import page
from dalign.report.samples import embed
from dalign.specs.run import ReportSpec
from dalign.specs.sampling import SelectorSpec

N = 8


def write_run(folder: Path, samples: int, characters: int) -> None:
    """An evaluation of ``samples`` answers of about ``characters`` characters, half of them in the reasoning."""
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(list("us"), N)) for _ in range(samples // N)]
    letters = rng.choice(list("abcdefghijklmnopqrstuvwxyz "), (samples, characters // 2))
    scores = {"similarity": rng.random((len(words), N, 5)), "kl": rng.random((len(words), N))}
    fake_run.write_cell(folder, words, scores=scores, said=["".join(row) for row in letters])


def figures(folder: Path, samples: int, characters: int) -> dict[str, dict[str, float]]:
    """Sizes in MB and times in seconds, with the samples and without."""
    write_run(folder / "run", samples, characters)
    headline = SelectorSpec(name="similarity")
    start = time.perf_counter()
    report = build_report(folder / "run", headline=headline, seed=0)
    drawn = draw_figures(report)
    out = {"both: measuring": {"seconds": round(time.perf_counter() - start, 2)}}
    for name, limit in ((f"{samples} samples of {characters} characters", samples), ("peer: no samples", 0)):
        start = time.perf_counter()
        text = page(report, drawn, embed(report, headline, ReportSpec(samples=limit)))
        made = time.perf_counter() - start
        file = folder / "index.html"
        file.write_text(text, encoding="utf-8")
        times = opened(file, folder) if chromium.BINARY is not None else {}
        out[name] = {"MB": round(len(text.encode()) / 1e6, 2), "making": round(made, 2), **times}
    return out


def opened(file: Path, folder: Path) -> dict[str, float]:
    """Seconds until the page stands, and until a filter and a search over all texts have been drawn."""
    with chromium.tab(folder / "profile") as tab:
        tab.open(file)  # the browser's own start is not the page's
        times = {}
        for name, view in (("opening", None), ("filter", "verdict=mixed&page=2"), ("search", "find=nobody+says+this")):
            start = time.perf_counter()
            tab.open(file) if view is None else tab.view(view)
            times[name] = round(time.perf_counter() - start, 2)
        return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=20_000)
    parser.add_argument("--characters", type=int, default=2_000)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = figures(Path(folder), asked.samples, asked.characters)
    width = max(map(len, found))
    for name, row in found.items():
        print(f"{name:<{width}}  " + "  ".join(f"{key} {value:.2f}" for key, value in row.items()))
    if chromium.BINARY is None:
        print("opening is not measured: no chromium or chrome on this machine")
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
