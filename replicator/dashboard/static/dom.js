// Making and keeping elements. Everything that comes from outside is set as text. Elements are kept
// from one status to the next, so that focus, selection and scrolling stay where they are.

export const byId = (id) => document.getElementById(id);

export function element(tag, className, ...children) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  for (const child of children) node.append(child);   // a string becomes a text node
  return node;
}

export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function setData(node, name, value) {
  if (node.dataset[name] !== value) node.dataset[name] = value;
}

// Makes the children of `parent` those of `items`, in their order: kept by key, made or updated.
export function keep(parent, items, keyOf, make, update) {
  const standing = parent.kept ?? new Map();
  const next = new Map();
  let previous = null;
  for (const item of items) {
    const key = keyOf(item);
    const node = standing.get(key) ?? make(item);
    update(node, item);
    next.set(key, node);
    const place = previous ? previous.nextSibling : parent.firstChild;
    if (node !== place) parent.insertBefore(node, place);
    previous = node;
  }
  for (const [key, node] of standing) if (!next.has(key)) node.remove();
  parent.kept = next;
}

const SVG = "http://www.w3.org/2000/svg";

export function svg(tag, attributes) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  return node;
}
