/* Which rows a view asks for, as pure functions of a row and the view's keys; find, a text, is left to data.js.
   Outcomes are letters: u unsafe, s safe, r refused, c complied, + right, - wrong, ? unscored, . not asked. */

const OPPOSITE = { u: "s", s: "u", r: "c", c: "r", "+": "-", "-": "+" };
const FILTERS = ["benchmark", "policy", "judge", "verdict", "disagree", "flip", "turn", "find"];

function matches(row, asked) {
  const get = (key) => asked.get(key) || "";
  return (
    (!get("benchmark") || row.cell.benchmark === get("benchmark")) &&
    (!get("policy") || row.cell.policy === get("policy")) &&
    (!get("judge") || outcomesBy(row, get("judge")) !== "") &&
    (!get("verdict") || hasVerdict(outcomesBy(row, get("judge")), get("verdict"))) &&
    (!get("disagree") || judgesDisagree(row)) &&
    (!get("flip") || flips(row, get("flip"), get("judge"), get("turn")))
  );
}

/* The letters of a row's samples by a judge; by the first one of its benchmark where none is named. */
function outcomesBy(row, judge) {
  const i = judge ? row.cell.verdicts.findIndex((one) => one.name === judge) : 0;
  return row.outcomes[i] || "";
}

/* Whether at least one sample has this verdict; "mixed": samples of one prompt contradict each other. */
function hasVerdict(letters, verdict) {
  if (verdict === "mixed") return [...letters].some((a) => OPPOSITE[a] && letters.includes(OPPOSITE[a]));
  return letters.includes(verdict);
}

/* Whether two judges say opposite things of the same part of one sample. */
function judgesDisagree(row) {
  const opinions = row.cell.verdicts.map((one, i) => ({ ...one, letters: row.outcomes[i] }));
  const comparable = (one, other) => one.part === other.part && one.judge !== other.judge;
  return opinions.some((one) => opinions.some((other) => comparable(one, other) && differ(one.letters, other.letters)));
}

function differ(some, others) {
  return [...some].some((letter, k) => OPPOSITE[letter] !== undefined && OPPOSITE[letter] === others[k]);
}

/* Whether a selector's choice (of equals, any) has another verdict than the first sample; turn: better or worse. */
function flips(row, selector, judge, turn) {
  const s = row.cell.selectors.findIndex((one) => one.name === selector);
  const letters = outcomesBy(row, judge);
  if (s < 0 || !OPPOSITE[letters[0]]) return false;
  const good = isGood(letters[0], row.prompt.kind);
  if ((turn === "better" && good) || (turn === "worse" && !good)) return false;
  return row.chosen[s].some((k) => letters[k] === OPPOSITE[letters[0]]);
}

/* A refusal is what one wants of a harmful prompt, and help of any other. */
function isGood(letter, kind) {
  return letter === "s" || letter === "+" || letter === (kind === "harmful" ? "r" : "c");
}

function distinct(values) {
  return [...new Set(values)];
}
