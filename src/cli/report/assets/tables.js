/** @typedef {import('../reportData').RunReport} Run */

/** The columns of the table of results. @type {[string, (run: Run) => string][]} */
const RESULTS = [
  ['state', stateOf],
  ['parameters', ({ parameters }) => (parameters === null ? '–' : count(parameters.total))],
  ['active', ({ parameters }) => (parameters === null ? '–' : count(parameters.active))],
  ['steps', ({ steps }) => count(steps)],
  ['validation loss', ({ run }) => number(numberAt(run, 'result', 'validation', 'loss'))],
  ['bits per byte', ({ run }) => number(numberAt(run, 'result', 'validation', 'bitsPerByte'))],
  ['best on the way', bestOf],
  ['training loss', ({ curves }) => number(curves.crossEntropy.mean.at(-1))],
  [
    'tokens/s',
    ({ run, curves }) =>
      number(numberAt(run, 'result', 'tokensPerSec') ?? medianOf(curves.tokensPerSec.mean)),
  ],
  ['time', ({ run }) => duration(numberAt(run, 'result', 'seconds'))],
  ['skipped', ({ skippedSteps }) => count(skippedSteps)],
];

/** @param {Run} run */
function stateOf({ run }) {
  if (at(run, 'error') !== undefined)
    return `failed: ${at(run, 'error', 'code') ?? at(run, 'error', 'message')}`;
  if (at(run, 'result') === undefined) return 'not finished';
  if (at(run, 'result', 'stoppedEarly') === true) return 'stopped early';
  return at(run, 'result', 'interrupted') === true ? 'interrupted' : 'finished';
}

/** The lowest evaluation. @param {Run} run */
function bestOf({ run, curves }) {
  const loss = numberAt(run, 'result', 'best', 'loss');
  if (loss !== undefined)
    return `${number(loss)} at step ${count(numberAt(run, 'result', 'best', 'step') ?? 0)}`;
  const { mean, steps, range } = curves.validationLoss;
  const low = range?.low ?? mean;
  if (low.length === 0) return '–';
  const best = low.indexOf(Math.min(...low));
  return `${number(low[best])} at step ${count(steps[best])}`;
}

/** @param {number[]} values */
function medianOf(values) {
  return [...values].sort((a, b) => a - b)[values.length >> 1];
}

/** @param {Run[]} runs */
function resultsSection(runs) {
  const made = section(
    'Results',
    'Losses in nats per token. The validation loss is that of the whole split at the end; the others were met on the way.',
  );
  const head = element(
    'tr',
    {},
    ['run', ...RESULTS.map(([title]) => title)].map((text) => element('th', { text })),
  );
  const rows = runs.map((run, i) => {
    const name = element('th', {}, [swatch(i), run.name]);
    return element('tr', {}, [name, ...RESULTS.map(([, tell]) => element('td', { text: tell(run) }))]);
  });
  made.append(scrolling('results', [element('thead', {}, [head]), element('tbody', {}, rows)], 'Results'));
  return made;
}

/**
 * A table that scrolls by itself where the page is narrow. @param {string} className @param {Node[]} parts @param
 * {string} label
 */
function scrolling(className, parts, label) {
  const frame = element('div', { className: 'scroll', label }, [element('table', { className }, parts)]);
  frame.tabIndex = 0;
  frame.setAttribute('role', 'region');
  return frame;
}

/** All settings of a run, by names such as 'options lr'. @param {Run} run @returns {Map<string, string>} */
function settingsOf({ run }) {
  /** @type {Map<string, string>} */
  const settings = new Map();
  for (const group of ['options', 'model', 'backend']) {
    for (const [key, value] of Object.entries(at(run, group) ?? {}))
      settings.set(`${group} ${key}`, shown(value));
  }
  for (const key of ['sgemoe', 'files'])
    if (at(run, key) !== undefined) settings.set(key, shown(at(run, key)));
  return settings;
}

/** @param {unknown} value */
function shown(value) {
  const text = typeof value === 'string' ? value : JSON.stringify(value);
  return text.length > 300 ? `${text.slice(0, 300)} ...` : text;
}

/** @param {Run[]} runs */
function settingsSection(runs) {
  const made = section('Settings');
  const all = runs.map(settingsOf);
  const names = [...new Set(all.flatMap((settings) => [...settings.keys()]))];
  const rows = names.map((name) => {
    const values = all.map((settings) => settings.get(name) ?? '–');
    const differs = new Set(values).size > 1;
    const cells = values.map((text) => element('td', { text }));
    return element('tr', { className: differs ? 'differs' : 'same' }, [
      element('th', { text: name }),
      ...cells,
    ]);
  });
  const titles = runs.map((run, i) => element('th', {}, [swatch(i), run.name]));
  const head = element('thead', {}, [element('tr', {}, [element('th', { text: 'setting' }), ...titles])]);
  const table = scrolling('settings', [head, element('tbody', {}, rows)], 'Settings');
  const details = document.createElement('details');
  details.open = runs.length > 1;
  details.append(element('summary', { text: `${count(names.length)} settings` }));
  if (runs.length > 1) details.append(differencesBox(table));
  details.append(table);
  made.append(details);
  return made;
}

/** A box that hides the settings that all runs share. @param {HTMLElement} table */
function differencesBox(table) {
  const box = document.createElement('input');
  box.type = 'checkbox';
  box.checked = true;
  const apply = () => table.classList.toggle('only-differences', box.checked);
  box.addEventListener('change', apply);
  apply();
  return element('label', { className: 'choice' }, [box, ' only what differs']);
}
