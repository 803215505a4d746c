/* The browser of samples: filters, a list of prompts in pages, and one prompt with its answers. What is asked for
   stands in the view (state.js); only whether texts are shown does not, so that no link shows them. */

const A_PAGE = 40; // prompts
const OPENING = 300; // characters of a prompt in the list

class Samples {
  constructor(root, index) {
    this.root = root;
    this.index = index;
    this.rows = rowsOf(index);
    this.byKey = new Map(this.rows.map((row) => [row.key, row]));
    this.shown = false;
    this.drawing = 0;
    this.drawn = {};
    this.searched = { text: "", found: null };
    const changed = (changes) => change({ page: "", open: "", ...changes });
    this.controls = new Controls(index, changed, () => this.toggle());
    this.body = make("div", { class: "found" });
    root.replaceChildren(this.controls.node, this.body);
    addEventListener("hashchange", () => this.draw());
  }

  toggle() {
    this.shown = !this.shown;
    this.draw();
  }

  /* Draws the view, unless it shows already or another one has overtaken it. */
  async draw() {
    const asked = view();
    const wanted = JSON.stringify([this.shown, ...[...FILTERS, "page", "open"].map((key) => asked.get(key) || "")]);
    const drawing = ++this.drawing;
    const overtaken = () => drawing !== this.drawing;
    this.controls.update(asked, this.shown);
    this.root.setAttribute("aria-busy", String(wanted !== this.drawn.wanted));
    if (wanted === this.drawn.wanted) return;
    const rows = await this.found(asked, overtaken);
    if (overtaken()) return;
    const open = this.byKey.get(asked.get("open") || "");
    const parts = open ? await this.prompt(open, rows) : await this.list(asked, rows);
    if (overtaken()) return;
    this.body.replaceChildren(...parts);
    if (open) prepareTables(this.body, "answers");
    this.goTo(open, asked.get("page") || "");
    this.drawn = { wanted, open, page: asked.get("page") || "" };
    this.root.setAttribute("aria-busy", "false");
  }

  /* A prompt that was opened, the list it was opened from, the next page: brings it into sight and focus. */
  goTo(open, page) {
    const before = this.drawn;
    if (open !== before.open || (page && page !== before.page && before.wanted)) this.body.scrollIntoView();
    const focus = open ? this.body.querySelector("h3") : before.open && this.linkTo(before.open);
    if (focus && open !== before.open) focus.focus({ preventScroll: true });
  }

  linkTo(row) {
    return [...this.body.querySelectorAll("li a")].find((link) => link.dataset.key === row.key);
  }

  /* The rows that the view asks for. */
  async found(asked, overtaken) {
    const rows = this.rows.filter((row) => matches(row, asked));
    const text = asked.get("find") || "";
    if (!text) return rows;
    if (this.searched.text !== text) {
      const tell = (done, of) => {
        this.controls.told.textContent = "searching, " + done + " of " + of;
        return !overtaken();
      };
      const found = await search(this.rows, text, tell);
      if (found === null) return rows;
      this.searched = { text, found };
    }
    return rows.filter((row) => this.searched.found.has(row));
  }

  async list(asked, rows) {
    const pages = Math.max(1, Math.ceil(rows.length / A_PAGE));
    const page = Math.min(pages, Math.max(1, parseInt(asked.get("page") || "1", 10) || 1));
    const samples = rows.reduce((sum, row) => sum + row.cell.n, 0);
    this.controls.told.textContent = counted(rows.length, "prompt") + ", " + counted(samples, "answer");
    const here = rows.slice((page - 1) * A_PAGE, page * A_PAGE);
    const items = await Promise.all(here.map((row) => this.item(row, asked.get("judge") || "")));
    const to = (number, words) => step(number >= 1 && number <= pages, { page: String(number) }, words);
    const middle = " page " + page + " of " + pages + " ";
    const turn = make("p", { class: "turn" }, to(page - 1, "\u2190 before"), middle, to(page + 1, "after \u2192"));
    return [make("ol", { class: "prompts", start: String((page - 1) * A_PAGE + 1) }, ...items), turn];
  }

  /* A line of the list: the prompt's name, its outcomes by one judge, its opening if texts are shown. */
  async item(row, judge) {
    const { cell, prompt } = row;
    const name = judge || (cell.verdicts[0] || { name: "not judged" }).name;
    const marks = [...outcomesBy(row, judge)].map((letter) => mark(this.index, letter, prompt.kind));
    const link = make("a", { href: address({ open: row.key }), "data-key": row.key }, title(row));
    const small = (words) => make("span", { class: "small" }, words);
    const opening = this.shown ? visible((await pageOf(row)).prompt.slice(0, OPENING)) : "";
    const said = make("div", { class: "opening" }, opening);
    return make("li", {}, link, " ", small(visible(prompt.tags.join(", "))), said, small(name + ": "), ...marks);
  }

  async prompt(row, rows) {
    const at = rows.indexOf(row);
    const to = (one, words) => step(one, { open: one && one.key }, words);
    const others = this.rows.filter((one) => one !== row && one.prompt.id === row.prompt.id);
    const turn = [
      make("a", { href: address({ open: "" }) }, "back to the list"),
      to(rows[at - 1], "\u2190 before"),
      to(at < 0 ? undefined : rows[at + 1], "after \u2192"),
      ...others.map((one) => to(one, "the same by " + one.cell.policy)),
    ];
    const place = at < 0 ? "" : "prompt " + (at + 1).toLocaleString("en") + " of ";
    this.controls.told.textContent = place + counted(rows.length, "prompt");
    const said = drawPrompt(this.index, row, await pageOf(row), this.shown);
    return [make("p", { class: "turn" }, ...turn.flatMap((link) => [link, " "])), ...said];
  }
}

/* A link where there is something to go to, else its words alone. */
function step(there, changes, words) {
  return there ? make("a", { href: address(changes) }, words) : make("span", { class: "small" }, words);
}
