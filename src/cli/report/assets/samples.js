/** @param {import('../reportData').RunReport[]} runs */
function samplesSection(runs) {
  const made = section('Samples', 'What the model wrote on the way.');
  runs.forEach((run, i) => {
    if (run.samples.length > 0) made.append(samplesOf(run, i));
  });
  return made;
}

/** @param {import('../reportData').RunReport} run @param {number} index */
function samplesOf(run, index) {
  const { samples, samplesOmitted } = run;
  const step = element('output', {});
  const prompt = element('span', { className: 'prompt' });
  const text = element('span', {});
  const slider = document.createElement('input');
  slider.type = 'range';
  slider.min = '0';
  slider.max = String(samples.length - 1);
  slider.value = slider.max;
  slider.setAttribute('aria-label', `Sample of ${run.name}`);
  const show = () => {
    const sample = samples[Number(slider.value)];
    step.textContent = `step ${count(sample.step)}`;
    slider.setAttribute('aria-valuetext', step.textContent);
    prompt.textContent = sample.prompt;
    text.textContent = sample.text;
  };
  slider.addEventListener('input', show);
  show();
  const omitted =
    samplesOmitted > 0
      ? element('span', { className: 'note', text: `${count(samplesOmitted)} left out` })
      : '';
  const head = element('div', { className: 'sample-head' }, [
    swatch(index),
    element('strong', { text: run.name }),
    slider,
    step,
    omitted,
  ]);
  return element('div', { className: 'sample' }, [head, element('pre', {}, [prompt, text])]);
}
