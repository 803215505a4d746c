/* Makes the page's tables sort and filter, and its samples browsable where it has any. */

async function start() {
  prepareTables(document, "");
  addEventListener("hashchange", drawTables);
  const root = document.getElementById("browser");
  if (!root) return;
  if (typeof DecompressionStream === "undefined") {
    root.replaceChildren(make("p", {}, "This browser cannot unpack the samples; one of 2023 or later can."));
    return;
  }
  await new Samples(root, await unpacked("index")).draw();
}

start();
