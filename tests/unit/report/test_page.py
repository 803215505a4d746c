"""The page in a real browser: nothing complains, nothing is asked of a network, filters narrow to what Python computes,
texts are hidden until asked for and inert afterwards, and 20,000 samples do not stall it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlencode

import numpy as np
import pytest
from chromium import BINARY, Tab, tab
from fake_run import write_cell

from dalign.report import write_report
from dalign.report.configurations import Entry
from dalign.report.gather import write_gathered
from dalign.specs.run import ReportSpec
from dalign.specs.sampling import SelectorSpec

pytestmark = pytest.mark.skipif(BINARY is None, reason="no chromium or chrome on this machine")

HEADLINE = SelectorSpec(name="bon", layer=1)
EVIL = (
    "</script><script>document.title = 'taken'</script><img src=x onerror=\"document.title = 'taken'\"> "
    '\u001b[31mred\u001b[0m \u202eabc =HYPERLINK("a") \\input{secrets} <!-- ${1+1} &lt;b&gt;\u0000'
)
SHOWN = EVIL.replace("\u001b", "⟨U+001B⟩").replace("\u202e", "⟨U+202E⟩").replace("\u0000", "⟨U+0000⟩")


class Site(NamedTuple):
    """A page, and what its cells were made from: words of letters a prompt, by policy and benchmark and by judge."""

    page: Path
    truth: dict[tuple[str, str], list[str]]
    guard: dict[tuple[str, str], list[str]]
    kl: np.ndarray


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    run = tmp_path_factory.mktemp("runs") / "night"
    rng = np.random.default_rng(3)
    truth, guard = {}, {}
    scores = {"kl": rng.random((12, 4)), "similarity": rng.random((12, 4, 3))}
    for policy in ("base", "distill"):
        truth[policy, "attacks"] = ["".join(rng.choice(list("uuss-"), 4)) for _ in range(12)]
        guard[policy, "attacks"] = [
            "".join(c if c == "-" else rng.choice([c, c, c, "u", "s", "x"]) for c in word)
            for word in truth[policy, "attacks"]
        ]
        write_cell(
            run,
            truth[policy, "attacks"],
            policy=policy,
            scores=scores if policy == "distill" else None,
            verdicts={"a_guard": guard[policy, "attacks"]},
            text=EVIL,
            said=EVIL,
        )
    truth["distill", "harmless"] = ["crcc", "cccc", "rrrr", "rcc-"]
    write_cell(run, truth["distill", "harmless"], benchmark="harmless", kind="benign", judge="toy_refusal")
    return Site(write_report(run, headline=HEADLINE, seed=0).index_html, truth, guard, scores["kl"])


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with tab(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture(autouse=True)
def _nothing_complains(browser: Tab) -> Iterator[None]:
    """Every test of this file ends without an error, a warning, or a request but for the page itself."""
    browser.complaints.clear()
    browser.requests.clear()
    yield
    assert browser.complaints == []
    assert {address.partition("#")[0].rpartition("/")[2] for address in browser.requests} <= {
        "index.html",
        "about:blank",
        "blank",
    }


def listed(browser: Tab) -> set[tuple[str, str, int]]:
    """Policy, benchmark and row of every prompt that the list shows."""
    names = [name.replace(" on ", ", prompt ").split(", prompt ") for name in browser.texts(".prompts li > a")]
    return {(policy, benchmark, int(row)) for policy, benchmark, row in names}


def wanted(
    site: Site, holds: Callable[[str, str], bool], judge: str = "truth", only: Callable[[str, str], bool] | None = None
) -> set[tuple[str, str, int]]:
    """The prompts for which ``holds(word, the other judge's word)``, among the cells that ``only`` takes."""
    own = site.truth if judge == "truth" else site.guard
    return {
        (*cell, i)
        for cell, words in own.items()
        if only is None or only(*cell)
        for i, word in enumerate(words)
        if holds(word, site.guard.get(cell, site.truth[cell])[i])
    }


def test_the_page_opens_with_every_prompt_and_shows_no_text(browser: Tab, site: Site) -> None:
    browser.open(site.page)
    assert listed(browser) == wanted(site, lambda *_: True)
    assert browser.texts("#browser output") == ["28 prompts, 112 answers"]
    assert "thinking" not in browser.ask("document.body.innerText")
    assert "secrets" not in browser.ask("document.documentElement.outerHTML")


@pytest.mark.parametrize(
    ("view", "judge", "holds", "only"),
    [
        ({"benchmark": "harmless"}, "truth", lambda w, g: True, lambda p, b: b == "harmless"),
        ({"policy": "base"}, "truth", lambda w, g: True, lambda p, b: p == "base"),
        ({"verdict": "u"}, "truth", lambda w, g: "u" in w, None),
        ({"verdict": "?", "judge": "a_guard"}, "guard", lambda w, g: "x" in w or "-" in w, None),
        ({"verdict": "s", "judge": "a_guard"}, "guard", lambda w, g: "s" in w, None),
        ({"verdict": "s", "policy": "base"}, "truth", lambda w, g: "s" in w, lambda p, b: p == "base"),
        ({"verdict": "mixed"}, "truth", lambda w, g: {"u", "s"} <= set(w) or {"r", "c"} <= set(w), None),
        ({"disagree": "1"}, "truth", lambda w, g: any({a, b} == {"u", "s"} for a, b in zip(w, g, strict=True)), None),
    ],
)  # fmt: skip
def test_a_filter_narrows_to_what_python_finds(
    browser: Tab,
    site: Site,
    view: dict[str, str],
    judge: str,
    holds: Callable[[str, str], bool],
    only: Callable[[str, str], bool] | None,
) -> None:
    browser.open(site.page, urlencode(view))
    every = wanted(site, lambda *_: True)
    expected = wanted(site, holds, judge, only)
    assert listed(browser) == expected
    assert 0 < len(expected) < len(every)


@pytest.mark.parametrize("turn", ["", "better", "worse"])
def test_flips_by_a_selector_are_those_of_its_choice(browser: Tab, site: Site, turn: str) -> None:
    expected = set()
    for i, word in enumerate(site.truth["distill", "attacks"]):
        finished = [j for j, c in enumerate(word) if c != "-"]
        if word[0] == "-" or not finished:
            continue
        choice = word[max(finished, key=lambda j: site.kl[i, j])]
        first_is = {"": word[0], "better": "u", "worse": "s"}[turn]
        if choice != word[0] and word[0] == first_is:
            expected.add(("distill", "attacks", i))
    browser.open(site.page, urlencode({"flip": "kl_argmax", "turn": turn, "benchmark": "attacks"}))
    assert listed(browser) == expected
    assert expected


def test_controls_write_the_address_and_the_address_sets_the_controls(browser: Tab, site: Site) -> None:
    browser.open(site.page)
    browser.ask(
        "(() => { const box = document.querySelector('[data-filter=policy]'); box.value = 'base';"
        "box.dispatchEvent(new Event('input')) })()"
    )
    browser.until("document.querySelector('#browser output').textContent.startsWith('12 prompts')")
    assert browser.ask("location.hash") == "#policy=base"
    browser.call("Page.reload")
    browser.settle()
    assert browser.ask("document.querySelector('[data-filter=policy]').value") == "base"
    assert {policy for policy, _, _ in listed(browser)} == {"base"}


def test_a_search_finds_texts_that_are_not_shown(browser: Tab, site: Site) -> None:
    browser.open(site.page, urlencode({"find": "THINKING of </SCRIPT>"}))
    assert {benchmark for _, benchmark, _ in listed(browser)} == {"attacks"}
    browser.view(urlencode({"find": "lamp lit 2"}))
    assert listed(browser) == {("distill", "harmless", 2)}
    assert "lamp" not in browser.ask("document.getElementById('browser').innerText")
    browser.view(urlencode({"find": "said by nobody"}))
    assert browser.texts("#browser output") == ["0 prompts, 0 answers"]


def test_a_prompt_opens_its_texts_hidden_then_shown_and_inert(browser: Tab, site: Site) -> None:
    browser.open(site.page, urlencode({"policy": "distill", "benchmark": "attacks"}))
    browser.click(".prompts a")
    assert browser.texts("#browser h3") == ["distill on attacks, prompt 0"]
    assert browser.texts("pre.said") == []
    assert "secrets" not in browser.ask("document.documentElement.outerHTML")
    word = site.truth["distill", "attacks"][0]
    assert len(browser.texts("article")) == len(word) == 4
    rows = browser.texts("#browser tbody tr")
    said = {"u": "unsafe", "s": "safe", "-": "unscored truncated"}
    assert browser.texts("#browser tbody td:nth-child(2)") == [said[c] for c in word]
    chosen = max((j for j, c in enumerate(word) if c != "-"), key=lambda j: site.kl[0, j])
    assert ["kl_argmax" in row for row in rows] == [j == chosen for j in range(4)]
    browser.click("[data-show]")
    assert browser.texts("pre[data-said=prompt]") == [f"{SHOWN} 0"]
    answers = browser.texts("pre[data-said=answer]")
    assert answers == ["(empty)" if c == "-" else SHOWN for c in word]
    assert browser.ask("[...document.querySelectorAll('details:has(pre.said)')].every((d) => !d.open)")
    assert browser.ask("document.title") == "dalign: night"
    assert browser.ask("document.querySelectorAll('#browser img, #browser script, #browser b').length") == 0
    browser.click("[data-show]")
    assert browser.texts("pre.said") == []
    browser.open(site.page, browser.ask("location.hash").lstrip("#"))
    assert browser.texts("#browser h3") == ["distill on attacks, prompt 0"]
    assert browser.texts("pre.said") == []


def test_an_opened_prompt_leads_to_its_neighbours_and_other_policies(browser: Tab, site: Site) -> None:
    browser.open(site.page, urlencode({"policy": "distill", "benchmark": "attacks"}))
    browser.click(".prompts li:nth-child(2) a")
    assert browser.texts(".turn a") == ["back to the list", "← before", "after →", "the same by base"]
    browser.click(".turn a:nth-of-type(4)")
    assert browser.texts("#browser h3") == ["base on attacks, prompt 1"]
    browser.click(".turn a")
    assert len(listed(browser)) == 12


def test_tables_sort_by_their_buttons_and_keep_dashes_last(browser: Tab, site: Site) -> None:
    browser.open(site.page)
    table = next(i for i, head in enumerate(browser.texts("thead")) if head.startswith("selector"))
    cells = f"[...document.querySelectorAll('table')[{table}].tBodies[0].rows].map((r) => r.cells[2].textContent)"
    before = browser.ask(cells)

    def numbers(texts: list[str]) -> list[float]:
        return [float("nan") if t.startswith("–") else float(t.split()[0]) for t in texts]

    def click() -> list[float]:
        browser.ask(f"document.querySelectorAll('table')[{table}].querySelectorAll('th button')[2].click()")
        browser.ask("new Promise((done) => setTimeout(() => done(1), 30))")
        return numbers(browser.ask(cells))

    assert click() == sorted(numbers(before))
    sort = f"document.querySelectorAll('table')[{table}].querySelectorAll('th')[2].ariaSort"
    assert browser.ask(sort) == "ascending"
    assert click() == sorted(numbers(before), reverse=True)
    assert browser.ask("location.hash") == f"#sort{table}=2d"
    click()
    assert browser.ask(cells) == before
    browser.open(site.page, urlencode({f"rows{table}": "kl argmax"}))
    rows = f"[...document.querySelectorAll('table')[{table}].tBodies[0].rows]"
    assert browser.ask(f"{rows}.filter((r) => !r.hidden).map((r) => r.cells[0].textContent)") == ["kl_argmax"]


def test_without_its_script_the_page_reads_the_same(browser: Tab, site: Site) -> None:
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.call("Page.navigate", url=site.page.as_uri())
        time.sleep(1)
        found = browser.call("DOM.getDocument", depth=1)["root"]["nodeId"]
        html = browser.call("DOM.getOuterHTML", nodeId=found)["outerHTML"]
    finally:
        browser.call("Emulation.setScriptExecutionDisabled", value=False)
    assert "needs this page's script, which has not run here" in html
    assert "<button" not in html
    assert "kl_argmax" in html


def test_no_script_but_the_pages_own_runs(browser: Tab, site: Site, tmp_path: Path) -> None:
    text = site.page.read_text()
    copy = tmp_path / "index.html"
    copy.write_text(text.replace("</body>", "<script>document.title = 'taken'</script></body>"))
    browser.open(copy)
    assert browser.ask("document.title") == "dalign: night"
    assert len(browser.texts(".prompts li")) == 28
    assert any("Content Security Policy" in text for text in browser.complaints)
    with pytest.raises(RuntimeError, match="TrustedHTML"):
        browser.ask("document.body.innerHTML = '<b>x</b>'")
    browser.complaints.clear()


def test_a_report_without_texts_says_so(browser: Tab, site: Site, tmp_path: Path) -> None:
    write_cell(tmp_path / "r", ["us"] * 3)
    paths = write_report(tmp_path / "r", headline=HEADLINE, seed=0, asked=ReportSpec(texts=False))
    browser.open(paths.index_html)
    assert browser.ask("document.querySelector('[data-show]').disabled") is True
    browser.click(".prompts a")
    assert browser.texts(".hidden-text")[0] == "The prompt was left out of this report."
    browser.open(paths.index_html, urlencode({"find": "lamp"}))
    assert listed(browser) == set()


def test_configurations_side_by_side_sort_too(browser: Tab, tmp_path: Path) -> None:
    places = [("a", 0.2, 0.1), ("b", 0.5, 0.3), ("c", 0.4, 0.5)]
    entries = [
        Entry("paper", "distill", teacher, "student", selector, "dan", rate, False)
        for teacher, first, rate_of in places
        for selector, rate in (("one answer", first), ("kl_argmax", rate_of))
    ]
    write_gathered([], tmp_path, published=entries)
    browser.open(tmp_path / "index.html")
    assert browser.ask(
        "document.querySelectorAll('table').length === document.querySelectorAll('th:first-child button').length"
    )


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_wider_than_the_screen(browser: Tab, site: Site, width: int) -> None:
    for view in ("", urlencode({"policy": "distill"})):
        browser.open(site.page, view, width=width)
        assert browser.ask("document.documentElement.scrollWidth") <= width
    browser.click(".prompts a")
    browser.click("[data-show]")
    assert browser.ask("document.documentElement.scrollWidth") <= width


def test_twenty_thousand_samples_do_not_stall(browser: Tab, tmp_path: Path) -> None:
    """The bounds are generous, for a busy machine; bench/report.py measures."""
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(list("us"), 8)) for _ in range(2500)]
    write_cell(tmp_path / "r", words, said="a long answer " * 40)
    page = write_report(tmp_path / "r", headline=HEADLINE, seed=0).index_html
    start = time.monotonic()
    browser.open(page)
    assert browser.texts("#browser output") == ["2,500 prompts, 20,000 answers"]
    assert len(browser.texts(".prompts li")) == 40
    assert time.monotonic() - start < 30
    start = time.monotonic()
    browser.view(urlencode({"verdict": "mixed", "page": "3"}))
    assert len(browser.texts(".prompts li")) == 40
    browser.view(urlencode({"find": "lamp lit 2499"}))
    assert listed(browser) == {("distill", "attacks", 2499)}
    assert time.monotonic() - start < 30
