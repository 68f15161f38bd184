'use strict';
/**
 * node .ci/tally.js <reportFolder> <failedSteps> <run>...: sums the JSON reports of these runs; the last line is
 * "N passed, N failed".
 * A run without a report, a report without tests and a test file that couldn't be loaded each count as a failure. So does a
 * run that failed, as <name>.failed says, without a failed test: no report counts tests that a crash cut off.
 * Failed tests are named here again, since often only the end of a long log is kept; so are the files that took longest.
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
    `${name}: ${counts.note ?? `${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped${counts.times}`}`,
  );
  passed += counts.passed;
  failed += counts.failed;
  for (const line of counts.failures ?? []) console.log(`  ${line}`);
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
    times: timesOf(report),
    failures: report.testResults.flatMap(failuresOf),
  };
}

/** How long the run took, and its slowest files. */
function timesOf({ startTime, testResults }) {
  if (testResults.length === 0) return '';
  const seconds = (from, to) => `${Math.round((to - from) / 1000)} s`;
  const taken = (file) => file.endTime - file.startTime;
  const slowest = testResults.toSorted((a, b) => taken(b) - taken(a)).slice(0, 6);
  const end = Math.max(...testResults.map((file) => file.endTime));
  const files = slowest.map(
    (file) => `${path.relative('.', file.name)} ${seconds(file.startTime, file.endTime)}`,
  );
  return `; ${seconds(startTime, end)}, longest ${files.join(', ')}`;
}

/** A line for each failed test of a file, or for the file if none could run: its name and the first line of its message. */
function failuresOf({ name, status, message, assertionResults }) {
  const file = path.relative('.', name);
  const failures = assertionResults.filter((test) => test.status === 'failed');
  if (failures.length === 0) return status === 'failed' ? [`${file}: ${excerpt(message)}`] : [];
  return failures.map((test) => `${file}: ${test.fullName}: ${excerpt(test.failureMessages[0])}`);
}

function excerpt(message = '') {
  return message.split('\n').slice(0, 4).join(' ').slice(0, 400);
}
