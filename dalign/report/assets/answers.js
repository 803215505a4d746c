/* One prompt and its N answers: how each ended, what each judge said, each score, and which selectors chose it. Texts
   are made only after the reader has asked for them. */

function drawPrompt(index, row, page, shown) {
  const { cell, prompt } = row;
  const facts = [prompt.kind, ...prompt.tags, "group " + prompt.group].join(" · ");
  const parts = [
    make("h3", { tabindex: "-1" }, title(row)),
    make("p", { class: "small" }, visible(facts)),
    textBlock("prompt", page.prompt, shown),
  ];
  if (page.reference) parts.push(make("p", {}, "Reference: "), textBlock("reference", page.reference, shown));
  parts.push(comparison(index, row, page));
  for (let k = 0; k < cell.n; k++) parts.push(answer(index, row, page, k, shown));
  return parts;
}

function title({ cell, prompt }) {
  return cell.policy + " on " + cell.benchmark + ", prompt " + visible(prompt.row);
}

function textBlock(name, text, shown) {
  if (text === undefined) return make("p", { class: "hidden-text" }, "The " + name + " was left out of this report.");
  if (!shown) return make("p", { class: "hidden-text" }, "The " + name + " is hidden.");
  return make("pre", { class: "said", "data-said": name, dir: "auto" }, text.trim() ? visible(text) : "(empty)");
}

/* A table of all N: verdicts, scores, lengths, who chose them; a star marks the headline's choice. */
function comparison(index, row, page) {
  const { cell } = row;
  const heads = (names, attributes) => names.map((name) => make("th", { scope: "col", ...attributes }, name));
  const left = { class: "text" };
  const judges = cell.verdicts.map((one) => one.name);
  const head = [...heads(["answer"]), ...heads(judges, left), ...heads([...cell.scores, "tokens"])];
  head.push(...heads(["finish", "chosen by"], left));
  const words = (...content) => make("td", left, ...content);
  const number = (value) => make("td", {}, value === null ? "\u2013" : brief(value));
  const body = page.tokens.map((tokens, k) => {
    const said = cell.verdicts.map((_, i) => words(verdict(index, row, page, i, k)));
    const scores = page.scores[k].map(number);
    const chosen = chosenBy(row, k);
    const name = make("td", {}, k + 1 + (chosen.some((one) => one.headline) ? " \u2605" : ""));
    return make("tr", {}, name, ...said, ...scores, number(tokens), words(page.finish[k]), words(...chosen.map(chip)));
  });
  const table = make("table", {}, make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...body));
  return make("div", { class: "scroll" }, table);
}

/* A number in four digits; a count as it is. */
function brief(number) {
  return String(Number.isInteger(number) ? number : Number(number.toPrecision(4)));
}

function chosenBy(row, k) {
  const equals = (n) => (n > 1 ? " (one of " + n + " equals)" : "");
  return row.cell.selectors
    .map((one, s) => ({ ...one, of: row.chosen[s] }))
    .filter((one) => one.of.includes(k))
    .map((one) => ({ words: one.name + equals(one.of.length), headline: one.headline }));
}

function chip({ words, headline }) {
  return make("span", { class: headline ? "chip headline-choice" : "chip" }, (headline ? "\u2605 " : "") + words);
}

function verdict(index, row, page, i, k) {
  const letter = row.outcomes[i][k];
  const told = page.details[k][i] || {};
  const more = [];
  if (told.p !== undefined) more.push("P(unsafe) " + brief(told.p));
  if (told.score !== undefined) more.push("score " + brief(told.score));
  if (told.category) more.push(visible(told.category));
  if (told.reason) more.push(visible(told.reason));
  return make("span", {}, mark(index, letter, row.prompt.kind), more.length ? " " + more.join(", ") : "");
}

/* An outcome in a word; its colour says only once more what the word says. */
function mark(index, letter, kind) {
  const tone = !OPPOSITE[letter] ? "open" : isGood(letter, kind) ? "good" : "bad";
  return make("span", { class: "mark " + tone }, index.outcomes[letter] || "not asked");
}

function answer(index, row, page, k, shown) {
  const { cell } = row;
  const said = page.answers ? page.answers[k] : {};
  const named = (one, i) => [make("span", { class: "small" }, one.name + ": "), verdict(index, row, page, i, k), " "];
  const parts = [
    make("h4", {}, "Answer " + (k + 1) + " of " + cell.n),
    make("p", {}, ...cell.verdicts.flatMap(named)),
    make("p", {}, ...chosenBy(row, k).map(chip)),
    make("p", { class: "small" }, page.finish[k] + ", " + counted(page.tokens[k], "token")),
  ];
  if (said.reasoning) parts.push(folded(said.reasoning, shown));
  return make("article", {}, ...parts, textBlock("answer", said.answer, shown));
}

function folded(reasoning, shown) {
  const summary = make("summary", {}, "Reasoning, " + counted(reasoning.length, "character"));
  return make("details", {}, summary, textBlock("reasoning", reasoning, shown));
}
