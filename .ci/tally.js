'use strict';
/**
 * node .ci/tally.js <reportFolder> <failedSteps> <run>...: sums the JSON reports of these runs; the last line is
 * "N passed, N failed".
 * A run without a report, a report without tests and a test file that couldn't be loaded are a failure each, and so is
 * a run that failed, as <name>.failed says, without a test that did: tests that a crash cut off are in no count.
 */
const fs = require('node:fs');
const path = require('node:path');

const [folder, failedSteps, ...expected] = process.argv.slice(2);
let passed = 0;
let failed = Number(failedSteps);

console.log('');
for (const name of expected) {
  const counts = count(path.join(folder, `${name}.json`));
  if (counts.failed === 0 && fs.existsSync(path.join(folder, `${name}.failed`))) {
    counts.failed = 1;
  }
  console.log(
    `${name}: ${counts.note ?? `${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`}`,
  );
  passed += counts.passed;
  failed += counts.failed;
}
console.log(`other steps: ${failedSteps} failed`);
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = failed === 0 ? 0 : 1;

function count(file) {
  if (!fs.existsSync(file)) {
    return { passed: 0, failed: 1, note: 'no report' };
  }
  const report = JSON.parse(fs.readFileSync(file, 'utf8'));
  const broken = report.testResults.filter(
    (suite) => suite.status === 'failed' && !suite.assertionResults.some((test) => test.status === 'failed'),
  ).length;
  if (report.numTotalTests === 0) {
    return { passed: 0, failed: Math.max(1, broken), note: 'no tests' };
  }
  return {
    passed: report.numPassedTests,
    failed: report.numFailedTests + broken,
    skipped: report.numPendingTests + report.numTodoTests,
  };
}
