'use strict';
/**
 * node bench/compare.js a.json [b.json ...] [--html report.html]
 *
 * Compares results of this benchmark and of other languages: prints tables in Markdown to stdout, and writes bars into an
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
