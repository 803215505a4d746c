/* Tables that sort by a column's button and show the rows that hold every word asked for. Sorting is numeric where the
   column is: "41 [35, 48]" counts as 41, and a dash comes last either way. */

const FILTERED_FROM = 10; // rows; shorter tables are read faster than filtered

const prepared = new Map();

function prepareTables(root, prefix) {
  [...root.querySelectorAll("table")].forEach((table, i) => prepared.set(prefix + i, prepareTable(table, prefix + i)));
  drawTables();
}

function drawTables() {
  const asked = view();
  for (const [name, table] of prepared) {
    drawTable(table, asked.get("sort" + name) || "", asked.get("rows" + name) || "");
  }
}

function prepareTable(table, name) {
  const rows = [...table.tBodies[0].rows];
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = make("button", { type: "button" }, ...head.childNodes);
    button.addEventListener("click", () => change({ ["sort" + name]: nextSort(head, column) }));
    head.append(button);
  });
  return { rows, heads, body: table.tBodies[0], ...(rows.length >= FILTERED_FROM ? tableFilter(table, name) : {}) };
}

/* Up, down, and as it was. */
function nextSort(head, column) {
  const now = head.getAttribute("aria-sort");
  return now === "ascending" ? column + "d" : now === "descending" ? "" : column + "a";
}

function tableFilter(table, name) {
  const words = make("input", { type: "search", size: "24" });
  const told = make("output", {});
  words.addEventListener("input", settled(() => change({ ["rows" + name]: words.value }), 150));
  table.parentElement.before(make("p", { class: "controls" }, make("label", {}, "Rows with ", words), told));
  return { words, told };
}

function drawTable(table, sort, words) {
  const column = parseInt(sort, 10);
  const sign = sort.endsWith("d") ? -1 : 1;
  const rows = column < table.heads.length ? sorted(table.rows, column, sign) : table.rows;
  const wanted = words.toLowerCase().split(/\s+/).filter(Boolean);
  for (const row of rows) {
    const text = row.textContent.toLowerCase();
    row.hidden = !wanted.every((word) => text.includes(word));
  }
  table.body.append(...rows);
  table.heads.forEach((head, i) => {
    if (i === column) head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
    else head.removeAttribute("aria-sort");
  });
  if (!table.words) return;
  if (document.activeElement !== table.words) table.words.value = words;
  const shown = rows.filter((row) => !row.hidden).length;
  table.told.textContent = wanted.length ? " " + shown + " of " + rows.length : "";
}

function sorted(rows, column, sign) {
  const keyed = rows.map((row) => ({ row, text: row.cells[column].textContent, number: numberIn(row.cells[column]) }));
  const numeric = keyed.some((k) => k.number !== null) && !rows[0].cells[column].classList.contains("text");
  const compare = (a, b) => {
    if (!numeric) return sign * a.text.localeCompare(b.text, "en", { numeric: true });
    if (a.number === null || b.number === null) return (a.number === null) - (b.number === null);
    return sign * (a.number - b.number);
  };
  return keyed.sort(compare).map((k) => k.row);
}

function numberIn(cell) {
  const number = parseFloat(cell.textContent.replace(/\u2212/g, "-").replace(/^<\s*/, ""));
  return Number.isNaN(number) ? null : number;
}
