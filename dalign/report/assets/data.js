/* The samples embedded in the page: an index, and chunks of texts unpacked when they are first needed. An index's cell
   is a policy on a benchmark; a row is one of its prompts, with everything that is known of it without its texts. */

async function unpacked(name) {
  const element = document.querySelector('script[data-samples="' + name + '"]');
  const bytes = Uint8Array.from(atob(element.textContent), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  element.remove(); // the text of a large page is kept once
  return JSON.parse(await new Response(stream).text());
}

const chunks = new Map();

function chunk(number) {
  if (!chunks.has(number)) chunks.set(number, unpacked(String(number)));
  return chunks.get(number);
}

/* The texts, scores and details of a row. */
async function pageOf(row) {
  const [number, place] = row.at;
  return (await chunk(number))[place];
}

function rowsOf(index) {
  return index.cells.flatMap((cell) =>
    cell.prompts.map((prompt, i) => ({
      cell,
      prompt,
      at: cell.at[i],
      outcomes: cell.outcomes[i],
      chosen: cell.chosen[i],
      key: [cell.policy, cell.benchmark, prompt.id].join("/"),
    }))
  );
}

/* The rows that hold a text, in any case, in their name, prompt, reasoning or answers; null if tell says to stop. */
async function search(rows, text, tell) {
  const found = new Set();
  const pattern = new RegExp(text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"), "iu");
  const byChunk = new Map();
  for (const row of rows) {
    if ([row.prompt.row, row.prompt.id, ...row.prompt.tags].some((name) => pattern.test(name))) found.add(row);
    byChunk.set(row.at[0], [...(byChunk.get(row.at[0]) || []), row]);
  }
  let done = 0;
  for (const [number, members] of byChunk) {
    const pages = await chunk(number);
    for (const row of members) if (says(pages[row.at[1]], pattern)) found.add(row);
    done += 1;
    if (!tell(done, byChunk.size)) return null; // another search has begun
  }
  return found;
}

function says(page, pattern) {
  if (page.prompt === undefined) return false;
  const texts = page.answers.flatMap((one) => [one.reasoning, one.answer]);
  return [page.prompt, ...texts].some((text) => pattern.test(text));
}
