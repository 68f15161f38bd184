/** The page demo.html: shows what the worker's model learns. */
import { element, find, percent, visible } from '../serve/page/dom.js';
import { Strip } from '../serve/page/strip.js';
import { Chart } from './chart.js';

/** @typedef {import('../serve/page/api.js').Token} Token */
/**
 * @typedef {{ kind: 'ready', parameters: number, backend: string, layers: number, experts: number }
 *   | { kind: 'step', step: number, loss: number, tokensPerSecond: number }
 *   | { kind: 'sample', text: string, tokens: Token[] }
 *   | { kind: 'stopped' }
 *   | { kind: 'error', message: string }} FromWorker
 */

const TEXT = [
  'the baker lights the oven before the town is awake.',
  'the ferry leaves at six, and the gulls know it.',
  'a kettle sings, a window opens, a dog shakes off the rain.',
  'the clockmaker counts the teeth of every wheel twice.',
  'nobody asks the river where it sleeps.',
].join('\n');

const chart = new Chart(find('chart', HTMLCanvasElement));
const text = find('text', HTMLTextAreaElement);
const startButton = find('start', HTMLButtonElement);
const stopButton = find('stop', HTMLButtonElement);
const worker = new Worker(new URL('./demoWorker.js', import.meta.url), { type: 'module' });
/** @type {{ layers: number, experts: number }} */
let shape = { layers: 0, experts: 0 };

text.value = TEXT;
chart.draw();
worker.addEventListener('message', ({ data }) => receive(/** @type {FromWorker} */ (data)));
worker.addEventListener('error', (event) => fail(event.message));
find('setup', HTMLFormElement).addEventListener('submit', (event) => {
  event.preventDefault();
  find('error', HTMLElement).hidden = true;
  chart.clear();
  setRunning(true);
  worker.postMessage({ kind: 'train', text: text.value });
});
stopButton.addEventListener('click', () => worker.postMessage({ kind: 'stop' }));

/** @param {boolean} running */
function setRunning(running) {
  startButton.disabled = running;
  stopButton.disabled = !running;
  text.disabled = running;
  find('state', HTMLElement).textContent = running ? 'Training.' : 'Stopped.';
}

/** @param {FromWorker} message */
function receive(message) {
  if (message.kind === 'ready') {
    const { parameters, backend, layers, experts } = message;
    shape = { layers, experts };
    const model = `${parameters.toLocaleString('en-US')} parameters, ${layers} layers of ${experts} experts`;
    find('model', HTMLElement).textContent = `${model}, in this page alone (${backend}).`;
    startButton.disabled = false;
  } else if (message.kind === 'step') {
    const { step, loss, tokensPerSecond } = message;
    chart.add(loss);
    chart.draw();
    const rate = Math.round(tokensPerSecond).toLocaleString('en-US');
    find('figures', HTMLElement).textContent =
      `Step ${step}: ${loss.toFixed(3)} nats per byte, ${rate} tokens/s`;
  } else if (message.kind === 'sample') {
    find('sample', HTMLElement).textContent = message.text;
    showExperts(message.tokens);
  } else if (message.kind === 'stopped') setRunning(false);
  else fail(message.message);
}

/** @param {Token[]} tokens */
function showExperts(tokens) {
  const describe = (/** @type {number} */ index) =>
    `${index + 1} of ${tokens.length}: ${visible(tokens[index].text)}`;
  const layers = Array.from({ length: shape.layers }, (_, layer) => layer);
  const strip = new Strip({ layers, experts: shape.experts, describe }, (index) => {
    const { experts, weights } = tokens[index];
    const choices = experts.map(
      (chosen, layer) =>
        `layer ${layer}: ${chosen.map((expert, k) => `expert ${expert} ${percent(weights[layer][k])}`).join(', ')}`,
    );
    find('token', HTMLElement).textContent = `${describe(index)}. ${choices.join('; ')}`;
  });
  find('strip', HTMLElement).replaceChildren(element('div', 'holder', strip.element));
  strip.add(tokens);
}

/** @param {string} message */
function fail(message) {
  const error = find('error', HTMLElement);
  error.textContent = message;
  error.hidden = false;
  setRunning(false);
}
