import { ServerError } from './api.js';
import { find } from './dom.js';

/** Number of alternatives requested for each token. */
const ALTERNATIVES = 5;

/** What the page asks for beside the text. */
export const REPORT = {
  complete: { logprobs: ALTERNATIVES, sgemoe: { routing: true } },
  chat: { logprobs: true, top_logprobs: ALTERNATIVES, sgemoe: { routing: true } },
};

/** The prompt. The server refuses an empty one; a line break is the least that can begin a text. */
export function readPrompt() {
  return find('prompt', HTMLTextAreaElement).value || '\n';
}

/** The JSON of a field; undefined for an empty one. @param {string} id @throws ServerError if it is no JSON */
export function readJson(id) {
  const field = find(id, HTMLTextAreaElement);
  if (field.value.trim() === '') return undefined;
  try {
    return JSON.parse(field.value);
  } catch {
    throw new ServerError(`${labelOf(field)} must be JSON.`);
  }
}

/**
 * How the form says that tokens are chosen. It has each filled field; for empty ones the server's defaults apply.
 * @returns {Record<string, unknown>}
 */
export function readSampling() {
  /** @type {Record<string, unknown>} */
  const request = {};
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

/** @param {HTMLInputElement | HTMLTextAreaElement} input */
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
