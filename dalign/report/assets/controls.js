/* The filters of the browser of samples, and the one button that shows texts. */

const TURNS = [["better", "for the better"], ["worse", "for the worse"]];

/* Each choice: its label, the words for no choice, and its values with their words. */
function choices(index) {
  const { cells, outcomes } = index;
  const named = (namesOf) => distinct(cells.flatMap(namesOf)).map((name) => [name, name]);
  const seen = distinct(cells.flatMap((cell) => cell.outcomes.flat()).join(""));
  const some = seen.filter((letter) => outcomes[letter]).map((letter) => [letter, "some " + outcomes[letter]]);
  return {
    benchmark: ["Benchmark", "all", named((cell) => [cell.benchmark])],
    policy: ["Policy", "all", named((cell) => [cell.policy])],
    judge: ["Judge", "the first of each benchmark", named((cell) => cell.verdicts.map((one) => one.name))],
    verdict: ["Verdicts", "any", [...some, ["mixed", "some of both kinds"]]],
    flip: ["Verdict flipped by", "any or no selector", named((cell) => cell.selectors.map((one) => one.name))],
    turn: ["Flipped", "either way", TURNS],
  };
}

class Controls {
  constructor(index, changed, toggled) {
    const asked = choices(index);
    const tick = make("input", { type: "checkbox", "data-filter": "disagree" });
    const text = make("input", { type: "search", size: "24", "data-filter": "find" });
    this.fields = Object.fromEntries(Object.entries(asked).map(([key, parts]) => [key, choice(key, parts, changed)]));
    this.fields.disagree = told(tick, () => changed({ disagree: tick.checked ? "1" : "" }));
    this.fields.find = told(text, settled(() => changed({ find: text.value.trim() }), 300));
    this.told = make("output", {});
    this.show = make("button", { type: "button", "data-show": true, disabled: !index.texts });
    this.show.addEventListener("click", toggled);
    const clear = make("button", { type: "button" }, "Clear filters");
    clear.addEventListener("click", () => changed(Object.fromEntries(FILTERS.map((key) => [key, ""]))));
    const label = ([key, [words]]) => make("label", {}, words + " ", this.fields[key]);
    const labels = Object.entries(asked).map(label);
    labels.push(make("label", {}, tick, " judges disagree"));
    labels.push(make("label", {}, index.texts ? "Text or row " : "Row ", text));
    this.node = make("form", { class: "controls" }, ...labels, make("p", {}, this.show, " ", clear, " ", this.told));
    this.node.addEventListener("submit", (event) => event.preventDefault());
  }

  update(asked, shown) {
    for (const [key, box] of Object.entries(this.fields)) {
      if (key === "disagree") box.checked = asked.get(key) === "1";
      else if (key !== "find" || box !== document.activeElement) box.value = asked.get(key) || "";
    }
    this.show.textContent = shown ? "Hide texts" : "Show texts, which may be harmful";
    this.show.setAttribute("aria-pressed", String(shown));
  }
}

function choice(key, [, none, values], changed) {
  const options = [["", none], ...values].map(([value, words]) => make("option", { value }, words));
  const box = make("select", { "data-filter": key }, ...options);
  return told(box, () => changed({ [key]: box.value }));
}

function told(box, changed) {
  box.addEventListener("input", changed);
  return box;
}
