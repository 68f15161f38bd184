'use strict';

/** The axes that all languages share, and those that `--all` adds here. Each is a module; they run in this order. */
const STANDARD_AXES = ['memory', 'compiler', 'type_system', 'parallel', 'scale'];
const EXTRA_AXES = ['decode', 'latency', 'sampling', 'training', 'kernels', 'attention', 'overhead'];

/**
 * @param {string} axis
 * @returns {import('../lib/measure').Scenario[]}
 */
function scenariosOf(axis) {
  return require(`./${axis}`).scenarios;
}

module.exports = { EXTRA_AXES, STANDARD_AXES, scenariosOf };
