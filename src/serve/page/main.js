/** The playground: it requests a completion, writes it as it arrives, and shows which experts predicted each token. */
import { fetchModel, ServerError, streamCompletion } from './api.js';
import { Completion } from './completion.js';
import { counted, find } from './dom.js';
import { readRequest } from './form.js';

const key = find('key', HTMLInputElement);
const runButton = find('run', HTMLButtonElement);
const stopButton = find('stop-button', HTMLButtonElement);
const written = find('written', HTMLElement);

/** Stops the current request. @type {AbortController | null} */
let running = null;
/** The completion on the page. @type {Completion | null} */
let completion = null;

async function run() {
  if (running !== null) return;
  running = new AbortController();
  const { signal } = running;
  /** @type {Completion | null} */
  let made = null;
  showRunning(true);
  showProblem('');
  try {
    const request = readRequest();
    const { n_experts } = await showModel();
    completion = made = new Completion(String(request.prompt), n_experts);
    for await (const chunk of streamCompletion(request, key.value, signal)) made.take(chunk);
  } catch (error) {
    if (!signal.aborted) showProblem(sentenceFor(error));
    else if (made !== null) made.finish = 'stopped by you';
  } finally {
    made?.end();
    running = null;
    showRunning(false);
  }
}

/** Checks before the first run whether the server answers and whether it wants a key. */
function greet() {
  showModel().then(
    (model) => {
      showProblem('');
      limitTokens(model.max_model_len);
    },
    (error) => showProblem(sentenceFor(error)),
  );
}

/** Fetches the model and shows its sizes. */
async function showModel() {
  const model = await fetchModel(key.value);
  find('model', HTMLElement).textContent =
    `${model.id}: ${layersOf(model)}; context of ${counted(model.max_model_len, 'token')}`;
  return model;
}

/** The layers in words. @param {import('./api.js').Model} model */
function layersOf({ n_layers, n_experts, experts_per_token, dense_layers }) {
  const mixtures = n_layers - dense_layers.length;
  if (mixtures === 0) return counted(n_layers, 'dense layer');
  const dense = dense_layers.length === 0 ? '' : `${dense_layers.length} dense and `;
  const layers = `${counted(mixtures, 'layer')} of ${counted(n_experts, 'expert')}`;
  return `${dense}${layers}, ${experts_per_token} for each token`;
}

/** Reduces the page's default number of tokens to what the model has room for. @param {number} most */
function limitTokens(most) {
  const field = find('max_tokens', HTMLInputElement);
  if (field.value === field.defaultValue && field.valueAsNumber > most) field.value = String(most);
}

/** @param {boolean} isRunning */
function showRunning(isRunning) {
  const wasOnStop = document.activeElement === stopButton;
  runButton.disabled = isRunning;
  stopButton.disabled = !isRunning;
  if (wasOnStop) runButton.focus();
  // Assistive technology reads the text out once it is complete.
  for (const live of [written, find('figures', HTMLElement)])
    live.setAttribute('aria-busy', String(isRunning));
}

/** @param {string} sentence '' for none */
function showProblem(sentence) {
  const problem = find('error', HTMLElement);
  problem.hidden = sentence === '';
  problem.textContent = sentence;
}

/** @param {unknown} error */
function sentenceFor(error) {
  if (!(error instanceof ServerError)) {
    return `The playground failed: ${error instanceof Error ? error.message : error}`;
  }
  if (error.status === 401) askForKey();
  return error.message;
}

function askForKey() {
  find('key-field', HTMLElement).hidden = false;
  find('model', HTMLElement).textContent = 'The server wants an API key.';
  key.focus();
}

find('request', HTMLFormElement).addEventListener('submit', (event) => {
  event.preventDefault();
  run();
});
stopButton.addEventListener('click', () => running?.abort());
document.addEventListener('keydown', (event) => {
  if (event.key === 'Escape') running?.abort();
  if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    run();
  }
});
written.addEventListener('pointerover', ({ target }) => {
  const token = target instanceof HTMLElement ? target.dataset.token : undefined;
  const strip = completion?.strip;
  if (token === undefined || !strip) return;
  strip.choose(Number(token));
  strip.reveal();
});
key.addEventListener('change', greet);
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => completion?.strip?.draw(0));
if (matchMedia('(max-width: 899px)').matches) find('controls', HTMLDetailsElement).open = false;
greet();
