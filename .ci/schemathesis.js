'use strict';
/**
 * Fuzzes a server of a tiny model with schemathesis, which makes requests from /openapi.json: valid ones, and ones that break a
 * schema. node .ci/schemathesis.js [examples of each route, default 60] [seed]. It installs schemathesis into a scratch folder;
 * SGEMOE_SCHEMATHESIS names a program that is there already.
 *
 * It fails if an answer has another status, type or schema than the document says, if a request that breaks its schema is taken,
 * or if the server answers 500. That a valid request is taken isn't asked: it may still be too long for the context, or have
 * fields that don't go together.
 */
const { spawn, execFileSync } = require('node:child_process');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { ByteTokenizer, Engine, MoETransformer, serve } = require('..');

const VERSION = 'schemathesis==4.32.5';
const CHECKS = [
  'not_a_server_error',
  'status_code_conformance',
  'content_type_conformance',
  'response_schema_conformance',
  'negative_data_rejection',
  'unsupported_method',
  'missing_required_header',
];

/** @returns the program, installed into `folder` unless the environment names one. */
function program(folder) {
  const { SGEMOE_SCHEMATHESIS } = process.env;
  if (SGEMOE_SCHEMATHESIS !== undefined) return SGEMOE_SCHEMATHESIS;
  const options = { stdio: ['ignore', 'ignore', 'inherit'] };
  execFileSync('python3', ['-m', 'pip', 'install', '--quiet', '--target', folder, VERSION], options);
  return null;
}

async function main([examples = '60', seed = '1']) {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'schemathesis-'));
  const shape = {
    hiddenDim: 16,
    ffnDim: 16,
    nLayers: 1,
    nHeads: 2,
    nKvHeads: 1,
    nExperts: 4,
    maxSeqLen: 128,
  };
  const model = MoETransformer.create(
    { ...MoETransformer.tiny().config, ...shape, vocabSize: 256 },
    { seed: 1 },
  );
  const engine = await Engine.create(model, new ByteTokenizer(), { maxBatch: 8, maxQueue: 2048 });
  const server = await serve({ engine, port: 0, timeoutMs: 20_000 });
  try {
    const file = program(folder);
    const flags = ['--checks', CHECKS.join(','), '--max-examples', examples, '--seed', seed];
    const more = ['--phases', 'examples,coverage,fuzzing', '--suppress-health-check', 'all'];
    const args = ['run', `${server.url}/openapi.json`, '--url', server.url, ...flags, ...more];
    const run = file === null ? ['python3', ['-m', 'schemathesis.cli', ...args]] : [file, args];
    const env = { ...process.env, ...(file === null && { PYTHONPATH: folder }) };
    const child = spawn(...run, { stdio: ['ignore', 'inherit', 'inherit'], env, cwd: folder });
    process.exitCode = await new Promise((done, fail) => child.once('error', fail).once('close', done));
    const alive = await fetch(`${server.url}/ready`);
    if (alive.status !== 200) process.exitCode = 1;
  } finally {
    await server.close({ graceMs: 0 });
    await engine.close();
    fs.rmSync(folder, { recursive: true, force: true });
  }
}

main(process.argv.slice(2)).catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
