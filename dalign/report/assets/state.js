/* What the reader looks at stands behind the address's #, so that a view can be linked, reloaded and gone back from.
   Keys: those of the filters (filters.js), page, open, and of each table sort<name> and rows<name>. */

function view() {
  return new URLSearchParams(location.hash.slice(1));
}

/* The address of the present view with some keys changed; an empty value takes a key out. */
function address(changes) {
  const next = view();
  for (const [key, value] of Object.entries(changes)) next.set(key, value);
  for (const [key, value] of [...next]) if (value === "") next.delete(key);
  return "#" + (next.toString() || "-"); // an empty fragment would scroll to the top
}

/* Changes the view in place, without a step to go back to. */
function change(changes) {
  location.replace(address(changes));
}
