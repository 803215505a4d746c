/* Elements from names and texts. Texts of others become text nodes and nothing else; what a terminal would obey, or
   an eye would miss, is shown by its number. */

function make(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== null) node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

/* Control characters, and others that are invisible or reorder text, by their numbers; line breaks and tabs stay. */
function visible(text) {
  const unseen = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\p{Cf}\u2028\u2029]/gu;
  return text.replace(/\r\n/g, "\n").replace(unseen, numbered);
}

function numbered(character) {
  return "\u27e8U+" + character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0") + "\u27e9";
}

function counted(n, one, many) {
  return n.toLocaleString("en") + " " + (n === 1 ? one : many || one + "s");
}

/* Runs a function once its caller has been quiet for a while. */
function settled(run, milliseconds) {
  let timer = 0;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(run, milliseconds);
  };
}
