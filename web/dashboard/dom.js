// Building and updating the page. Everything that comes from the server enters through here, as text and never as markup.
// Left out: what the page shows (view_*.js).

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat().filter((child) => child !== undefined && child !== null && child !== false));
  return element;
}

/** A new element; strings among the children become text. `onclick` and the like take functions. */
export function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** The same for SVG. */
export function s(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

/** Sets the text where it differs: an unchanged page costs no layout, and keeps what the user has selected. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Sets or removes an attribute where it differs. */
export function setAttribute(element, name, value) {
  if (value === undefined || value === null || value === false) {
    if (element.hasAttribute(name)) element.removeAttribute(name);
  } else if (element.getAttribute(name) !== String(value)) {
    element.setAttribute(name, String(value));
  }
}

/** Shows or hides. */
export function setShown(element, shown) {
  if (element.hidden === shown) element.hidden = !shown;
}

/**
 * Makes the children of `parent` those of `items`, in this order. `key` names an item for as long as it lives; `create` makes its element once, `update`
 * brings it up to date each time. Elements that stay are not touched by the order of others, so focus and selection stay too.
 */
export function keyed(parent, items, key, create, update) {
  const known = (parent.keyedChildren ??= new Map());
  const wanted = new Set();
  let next = parent.firstElementChild;
  for (const item of items) {
    const name = key(item);
    if (wanted.has(name)) continue;
    wanted.add(name);
    let element = known.get(name);
    if (element === undefined) {
      element = create(item);
      known.set(name, element);
    }
    if (element === next) {
      next = next.nextElementSibling;
    } else {
      parent.insertBefore(element, next);
    }
    update(element, item);
  }
  for (const [name, element] of known) {
    if (wanted.has(name)) continue;
    element.remove();
    known.delete(name);
  }
}

/** What stands where there is nothing to show yet: a sentence, and what to type. */
export function emptyState(sentence, command) {
  return h("div", { class: "empty" }, h("p", {}, sentence), command && h("pre", {}, h("code", {}, command)));
}
