/**
 * The playground: it requests a completion or an answer, writes it as it arrives, and shows which experts predicted each token.
 */
import { fetchModels, ServerError, streamChat, streamCompletion } from './api.js';
import { asCurl, asProgram } from './clientCode.js';
import { Completion } from './completion.js';
import { Conversation } from './conversation.js';
import { counted, find } from './dom.js';
import { REPORT, readJson, readPrompt, readSampling } from './form.js';

const key = find('key', HTMLInputElement);
const runButton = find('run', HTMLButtonElement);
const stopButton = find('stop-button', HTMLButtonElement);
const retryButton = find('retry', HTMLButtonElement);
const modes = {
  complete: find('mode-complete', HTMLInputElement),
  chat: find('mode-chat', HTMLInputElement),
};
const models = find('models', HTMLSelectElement);
const written = find('written', HTMLElement);
const conversation = new Conversation();

/** Stops the current request. @type {AbortController | null} */
let running = null;
/** The completion on the page. @type {Completion | null} */
let completion = null;

/** @param {boolean} again whether the last answer is made anew */
async function run(again = false) {
  if (running !== null) return;
  if (modes.chat.checked && (again ? !conversation.canRetry : conversation.message.value === '')) return;
  running = new AbortController();
  const { signal } = running;
  /** @type {Completion | null} */
  let made = null;
  /** @type {import('./conversation.js').Turn | null} */
  let turn = null;
  showRunning(true);
  showProblem('');
  try {
    const asked = modes.chat.checked ? chatFields() : readSampling();
    const { id: model, n_experts } = await showModel();
    if (modes.chat.checked) {
      if (again) conversation.retry();
      else conversation.send();
      const request = { model, messages: conversation.messages, ...asked, ...REPORT.chat };
      const answer = conversation.answer('response_format' in asked ? 'JSON by the schema' : '');
      turn = answer;
      completion = made = new Completion(answer.body, n_experts);
      for await (const chunk of streamChat(request, key.value, signal)) {
        made.take(chunk);
        for (const call of chunk.choices.flatMap(({ calls = [] }) => calls)) conversation.call(answer, call);
      }
    } else {
      const prompt = readPrompt();
      find('given', HTMLElement).textContent = prompt;
      completion = made = new Completion(written, n_experts);
      const request = { model, prompt, ...asked, ...REPORT.complete };
      for await (const chunk of streamCompletion(request, key.value, signal)) made.take(chunk);
    }
  } catch (error) {
    if (!signal.aborted) showProblem(sentenceFor(error));
    else if (made !== null) made.finish = 'stopped by you';
  } finally {
    made?.end();
    if (turn !== null) conversation.end(turn);
    running = null;
    showRunning(false);
  }
}

/** The fields of a chat beside its messages. */
function chatFields() {
  const [tools, schema] = [readJson('tools'), readJson('schema')];
  /** @type {Record<string, unknown>} */
  const fields = readSampling();
  if (tools !== undefined) fields.tools = tools;
  if (schema !== undefined) {
    fields.response_format = { type: 'json_schema', json_schema: { name: 'answer', schema, strict: true } };
  }
  return fields;
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

/** Fetches the models, and shows the chosen one's sizes. */
async function showModel() {
  const all = await fetchModels(key.value);
  const chosen = all.find(({ id }) => id === models.value) ?? all[0];
  models.replaceChildren(...all.map(({ id }) => new Option(id, id, false, id === chosen.id)));
  find('models-field', HTMLElement).hidden = all.length < 2;
  find('modes', HTMLElement).hidden = !chosen.chat_template;
  if (!chosen.chat_template && modes.chat.checked) {
    modes.complete.checked = true;
    showMode();
  }
  find('model', HTMLElement).textContent =
    `${chosen.id}: ${layersOf(chosen)}; context of ${counted(chosen.max_model_len, 'token')}`;
  return chosen;
}

/** Shows the fields of the mode. */
function showMode() {
  const isChat = modes.chat.checked;
  for (const id of ['complete', 'output']) find(id, HTMLElement).hidden = isChat;
  for (const id of ['chat', 'retry', 'clear']) find(id, HTMLElement).hidden = !isChat;
  runButton.textContent = isChat ? 'Send' : 'Run';
  find('copied', HTMLElement).hidden = true;
  find('figures', HTMLElement).textContent = '';
  find('experts', HTMLElement).hidden = true;
  completion = null;
}

/** Copies the request of the form, or the one that its message would make. @param {typeof asCurl} write */
async function copy(write) {
  showProblem('');
  try {
    const url = new URL('.', location.href).href;
    const isChat = modes.chat.checked;
    const model = models.value;
    const { value } = conversation.message;
    const said = value === '' ? [] : [{ role: 'user', content: value }];
    const request = isChat
      ? { model, messages: [...conversation.messages, ...said], ...chatFields() }
      : { model, prompt: readPrompt(), ...readSampling() };
    const path = isChat ? 'chat/completions' : 'completions';
    const code = find('code', HTMLTextAreaElement);
    code.value = write({ url, key: key.value, path, request });
    find('copied', HTMLElement).hidden = false;
    // Only pages from this machine or over TLS have a clipboard.
    const isCopied = await navigator.clipboard?.writeText(code.value).then(
      () => true,
      () => false,
    );
    find('copied-note', HTMLElement).textContent = isCopied ? 'Copied' : 'To copy';
    if (!isCopied) code.select();
  } catch (error) {
    showProblem(sentenceFor(error));
  }
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
  retryButton.disabled = isRunning || !conversation.canRetry;
  models.disabled = isRunning;
  for (const mode of Object.values(modes)) mode.disabled = isRunning;
  if (wasOnStop) runButton.focus();
  // Assistive technology reads the text out once it is complete.
  for (const live of [written, conversation.list, find('figures', HTMLElement)])
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
for (const text of [written, conversation.list]) {
  text.addEventListener('pointerover', ({ target }) => {
    const token = target instanceof HTMLElement ? target.dataset.token : undefined;
    const strip = completion?.strip;
    if (token === undefined || !strip) return;
    strip.choose(Number(token));
    strip.reveal();
  });
}
retryButton.addEventListener('click', () => run(true));
find('clear', HTMLButtonElement).addEventListener('click', () => {
  running?.abort();
  conversation.clear();
  showMode();
  retryButton.disabled = true;
});
find('keep', HTMLButtonElement).addEventListener('click', () => conversation.edit(-1));
find('copy-curl', HTMLButtonElement).addEventListener('click', () => copy(asCurl));
find('copy-program', HTMLButtonElement).addEventListener('click', () => copy(asProgram));
for (const mode of Object.values(modes)) mode.addEventListener('change', showMode);
models.addEventListener('change', greet);
key.addEventListener('change', greet);
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => completion?.strip?.draw(0));
if (matchMedia('(max-width: 899px)').matches) find('controls', HTMLDetailsElement).open = false;
greet();
