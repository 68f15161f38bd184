import { ServerError } from './api.js';
import { find } from './dom.js';

/** Number of alternatives requested for each token. */
const ALTERNATIVES = 5;

/**
 * The request that the form describes. It has each filled field; for empty ones the server's defaults apply.
 * @returns {Record<string, unknown>}
 */
export function readRequest() {
  // The server refuses an empty prompt; a line break is the least that can begin a text.
  const prompt = find('prompt', HTMLTextAreaElement).value || '\n';
  /** @type {Record<string, unknown>} */
  const request = { prompt, logprobs: ALTERNATIVES, sgemoe: { routing: true } };
  const form = find('request', HTMLFormElement);
  for (const input of form.querySelectorAll('input')) {
    if (input.type !== 'number') continue;
    if (input.validity.badInput) throw new ServerError(`${labelOf(input)} must be a number.`);
    if (input.value !== '') request[input.name] = input.valueAsNumber;
  }
  const stop = linesOf(find('stop', HTMLTextAreaElement).value);
  if (stop.length > 0) request.stop = stop;
  return request;
}

/** @param {HTMLInputElement} input */
function labelOf(input) {
  return input.labels?.[0]?.textContent ?? input.name;
}

/** Lines that aren't empty; '\n' in them stands for a line break. @param {string} text */
function linesOf(text) {
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => line.replaceAll('\\n', '\n'));
}
