/** @typedef {import('../reportData').CurveName} CurveName */

/**
 * The charts with one line a run: name, title, unit, options. @type {[CurveName, string, string,
 * Partial<ChartOptions>][]}
 */
const CHARTS = [
  ['validationBitsPerByte', 'Validation bits per byte', '', {}],
  ['accuracy', 'Preferred', 'share of pairs whose chosen answer has the higher reward', {}],
  ['validationAccuracy', 'Preferred in the validation', 'share of pairs', {}],
  ['margin', 'Margin', 'reward of the chosen answers less that of the rejected', {}],
  [
    'chosenReward',
    'Reward of chosen answers',
    'beta times the log of the probability over the reference',
    {},
  ],
  [
    'rejectedReward',
    'Reward of rejected answers',
    'beta times the log of the probability over the reference',
    {},
  ],
  ['lr', 'Learning rate', '', { zero: true }],
  ['gradNorm', 'Gradient norm', 'before clipping', { log: true }],
  ['tokensPerSec', 'Speed', 'tokens/s', { zero: true }],
  ['auxLoss', 'Balance loss', 'sum over the layers', {}],
  ['loadEntropy', 'Load entropy', 'lowest layer; 1 is even', {}],
  ['maxOverMean', 'Busiest expert', 'share over the mean, highest layer; 1 is even', {}],
  ['deadExperts', 'Experts without a token', 'all layers', { zero: true }],
];

/** @param {import('../reportData').RunReport[]} runs */
function lossChart(runs) {
  const lines = () =>
    runs.flatMap((run, i) => {
      const validation = run.curves.validationLoss;
      // A single run has two colours, one for each curve; of several runs, each has its own colour.
      const colours = runs.length === 1 ? [runColour(0), runColour(1)] : [`${runColour(i)}99`, runColour(i)];
      const name = (/** @type {string} */ what) => (runs.length === 1 ? what : `${run.name}, ${what}`);
      /** @type {Line[]} */
      const made = [
        { label: name('training'), colour: colours[0], curve: run.curves.crossEntropy, kind: 'thin' },
      ];
      if (validation.steps.length > 0)
        made.push({ label: name('validation'), colour: colours[1], curve: validation, kind: 'points' });
      return made;
    });
  return new Chart({
    title: 'Loss',
    unit: 'cross-entropy, nats per token; of preference pairs, their loss',
    lines,
    wide: true,
  });
}

/** @param {import('../reportData').RunReport[]} runs */
function chartsOf(runs) {
  const drawn = CHARTS.filter(([name]) => runs.some((run) => run.curves[name].steps.length > 0));
  return drawn.map(([name, title, unit, options]) => {
    const lines = () =>
      runs.map((run, i) => ({
        label: run.name,
        colour: runColour(i),
        curve: run.curves[name],
        kind: kindOf(name),
      }));
    return new Chart({ title, unit, lines, ...options });
  });
}

/** @param {CurveName} name @returns {'points' | 'line'} */
function kindOf(name) {
  return name === 'validationBitsPerByte' || name === 'validationAccuracy' ? 'points' : 'line';
}

/** @param {{ version: string, runs: import('../reportData').RunReport[] }} data */
function report({ version, runs }) {
  const main = /** @type {HTMLElement} */ (document.getElementById('report'));
  const title = runs.length === 1 ? runs[0].name : `${runs.length} runs`;
  document.title = `${title} · sgemoe report`;
  const charts = [lossChart(runs), ...chartsOf(runs)];
  const heat = heatSection(runs);
  const grid = element(
    'div',
    { className: 'grid' },
    charts.map((each) => each.element),
  );
  const curves = section(
    'Curves',
    'Over the steps. Drag to zoom in, double-click to see all; a name switches its line. Where several steps share a point, the band reaches from the lowest to the highest.',
  );
  curves.append(grid);
  main.append(
    element('header', {}, [
      element('h1', { text: title }),
      element('p', { className: 'note', text: `written by sgemoe ${version}` }),
    ]),
  );
  main.append(resultsSection(runs), curves);
  if (heat.any) main.append(heat.element);
  if (runs.some((run) => run.samples.length > 0)) main.append(samplesSection(runs));
  main.append(settingsSection(runs));
  const draw = () => {
    for (const each of charts) each.draw();
    heat.draw();
  };
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', draw);
  draw();
}

report(JSON.parse(/** @type {HTMLElement} */ (document.getElementById('data')).textContent ?? ''));
