/** The details of a token: its alternatives with their probabilities, and its experts with their gate weights. */
import { element, percent, visible } from './dom.js';

/** @typedef {import('./api.js').Token} Token */

/** One sentence for assistive technology. @param {Token} token */
export function sentenceOf(token) {
  const layers = token.experts.flatMap((experts, layer) => {
    if (experts.length === 0) return [];
    const ways = experts.map((expert, k) => `${expert} (${weightText(token.weights[layer][k])})`);
    return [`; layer ${layer}: experts ${ways.join(', ')}`];
  });
  const others = token.top.filter(({ id }) => id !== token.id);
  const alternatives = others.map((other) => `"${visible(other.text)}" ${probabilityText(other)}`).join(', ');
  return `"${visible(token.text)}" ${probabilityText(token)}; alternatives ${alternatives || 'none'}${layers.join('')}`;
}

/** @param {Token} token @param {number} index */
export function detailsOf(token, index) {
  const title = element('h3', '', `Token ${index + 1}: `, element('code', '', visible(token.text)));
  title.append(element('span', 'note', ` id ${token.id}`));
  const made = element('div', 'details', title);
  const chosenInTop = token.top.some(({ id }) => id === token.id);
  const alternatives = chosenInTop ? token.top : [...token.top, token];
  made.append(
    table(
      'Probabilities, before the sampling controls',
      alternatives.map((alternative) => ({
        name: element('code', '', visible(alternative.text)),
        share: Math.exp(alternative.logprob),
        value: probabilityText(alternative),
        chosen: alternative.id === token.id,
      })),
    ),
  );
  const gates = token.experts.flatMap((experts, layer) =>
    experts.map((expert, k) => ({
      name: element('span', '', `layer ${layer}, expert ${expert}`),
      share: token.weights[layer][k],
      value: weightText(token.weights[layer][k]),
      chosen: false,
    })),
  );
  if (gates.length > 0) made.append(table('Experts and gate weights', gates));
  return made;
}

/**
 * @param {string} caption
 * @param {{ name: Node, share: number, value: string, chosen: boolean }[]} rows
 */
function table(caption, rows) {
  const lines = rows.map(({ name, share, value, chosen }) => {
    const bar = element('span', 'bar');
    bar.style.width = `${100 * Math.min(1, share)}%`;
    const head = element('th', '', name);
    head.setAttribute('scope', 'row');
    if (chosen) head.append(element('span', 'note', ' chosen'));
    return element(
      'tr',
      chosen ? 'chosen' : '',
      head,
      element('td', 'track', bar),
      element('td', 'value', value),
    );
  });
  return element('table', '', element('caption', '', caption), element('tbody', '', ...lines));
}

/** @param {{ logprob: number }} token */
function probabilityText({ logprob }) {
  return percent(Math.exp(logprob));
}

/** @param {number} weight */
function weightText(weight) {
  return weight.toFixed(2);
}
