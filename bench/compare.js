'use strict';
/**
 * node bench/compare.js a.json [b.json ...] [--html report.html]
 *
 * Puts results side by side, of this benchmark or of another language's: tables in Markdown on stdout, and bars in an
 * HTML page that needs nothing else.
 */
const fs = require('node:fs');
const { checkWritable, command, start } = require('./lib/command');

start(async () => {
  const program = command('compare.js', 'Compares result files: Markdown to stdout, and a page with bars.')
    .argument('<files...>', 'results of bench/run.js, or of another language')
    .option('--html <file>', 'write the page there')
    .parse();
  const { html } = program.opts();
  if (html !== undefined) checkWritable('--html', html);
  const results = require('./report/load').loadResults(program.args);
  process.stdout.write(require('./report/markdown').markdownReport(results));
  if (html !== undefined) fs.writeFileSync(html, require('./report/html').htmlReport(results));
});
