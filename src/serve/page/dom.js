/** Finds and makes elements, and formats values. Text only ever becomes text, never HTML. */

/**
 * The element of this id.
 * @template {HTMLElement} T
 * @param {string} id
 * @param {new () => T} kind
 * @returns {T}
 */
export function find(id, kind) {
  const found = document.getElementById(id);
  if (!(found instanceof kind)) throw new Error(`The page has no ${kind.name} #${id}`);
  return found;
}

/**
 * @param {string} tag
 * @param {string} className
 * @param {...(Node | string)} children
 */
export function element(tag, className, ...children) {
  const made = document.createElement(tag);
  made.className = className;
  made.append(...children);
  return made;
}

/** A token's text as a label with visible spaces and line breaks. @param {string} text */
export function visible(text) {
  const marks = /** @type {Record<string, string>} */ ({ ' ': '·', '\n': '⏎', '\r': '␍', '\t': '⇥' });
  return text === '' ? '∅' : text.replace(/[ \n\r\t]/g, (char) => marks[char]);
}

/** 0.1234 -> '12.3 %' @param {number} share */
export function percent(share) {
  if (share > 0 && share < 0.001) return '< 0.1 %';
  return `${(100 * share).toFixed(1)} %`;
}

/** 1234 -> '1.23 s', 12 -> '12 ms' @param {number} milliseconds */
export function duration(milliseconds) {
  return milliseconds < 1000 ? `${milliseconds.toFixed(0)} ms` : `${(milliseconds / 1000).toFixed(2)} s`;
}

/** 1 -> '1 token', 2 -> '2 tokens' @param {number} count @param {string} what */
export function counted(count, what) {
  return `${count.toLocaleString('en-US')} ${what}${count === 1 ? '' : 's'}`;
}
