'use strict';
/** Runs of bench/distributed.js: one process, ranks under mpirun, and ranks of the peer; on this machine or on two hosts. */
const { spawn } = require('node:child_process');
const path = require('node:path');
const { UsageError } = require('./command');
const { peerEnvironment } = require('../peers/environment');

const PROGRAM = path.join(__dirname, 'rankProgram.js');
const PEER = path.join(__dirname, '..', 'peers', 'ddp_peer.py');
const PEER_PORT = '29517';
/** What Open MPI's launcher wants; MPICH's has no need of it. */
const LAUNCHERS = {
  'mpirun.openmpi': { mpi: 'openmpi', args: ['--oversubscribe', '--bind-to', 'none'] },
  'mpirun.mpich': { mpi: 'mpich', args: [] },
};
const RIGHTS = { OMPI_ALLOW_RUN_AS_ROOT: '1', OMPI_ALLOW_RUN_AS_ROOT_CONFIRM: '1' };

/** @typedef {import('./twoHosts').TwoHosts} TwoHosts */

/** @returns {Promise<any>} what rankProgram.js prints */
function runAlone(job, threads) {
  const env = { SGEMOE_THREADS: String(threads), SGEMOE_MPI: 'none' };
  return answerOf([process.execPath, PROGRAM, JSON.stringify(job)], env);
}

/**
 * @param {object} job
 * @param {{ ranks: number, launcher: string, hosts: TwoHosts | null }} where
 * @returns {Promise<any>} what rankProgram.js prints
 */
function runRanks(job, { ranks, launcher, hosts }) {
  const { mpi, args } = LAUNCHERS[launcher];
  const launch = hosts === null ? [launcher, ...args] : hosts.launch(mpi);
  const program = [process.execPath, PROGRAM, JSON.stringify(job)];
  return answerOf([...launch, '-n', String(ranks), ...program], { ...RIGHTS, SGEMOE_THREADS: '1' });
}

/**
 * @param {object} job
 * @param {{ ranks: number, python: string, hosts: TwoHosts | null }} where
 * @returns {Promise<any>} what ddp_peer.py prints
 */
async function runPeers(job, { ranks, python, hosts }) {
  const program = [python, PEER, JSON.stringify(job)];
  const network = hosts === null ? { MASTER_ADDR: '127.0.0.1' } : hosts.gloo;
  const answers = Array.from({ length: ranks }, (_, rank) => {
    const line = hosts === null ? program : hosts.on(rank, ...program);
    const place = { RANK: String(rank), WORLD_SIZE: String(ranks), MASTER_PORT: PEER_PORT };
    return outputOf(line, { ...peerEnvironment({ threads: 1, blas_core: null }), ...network, ...place });
  });
  return JSON.parse((await Promise.all(answers))[0]);
}

async function answerOf(line, env) {
  const text = await outputOf(line, { ...process.env, ...env });
  return JSON.parse(text.slice(text.indexOf('{')));
}

/**
 * @param {string[]} line the program and its arguments
 * @returns {Promise<string>}
 */
function outputOf([program, ...args], env) {
  return new Promise((done, fail) => {
    const child = spawn(program, args, { env, stdio: ['ignore', 'pipe', 'pipe'] });
    let [stdout, stderr] = ['', ''];
    child.stdout.on('data', (data) => {
      stdout += data;
    });
    child.stderr.on('data', (data) => {
      stderr += data;
    });
    child.on('error', (error) => fail(new UsageError(`${program}: ${error.message}`)));
    child.on('close', (code, signal) => {
      if (code === 0) done(stdout);
      else fail(new Error(`${program} ended with ${signal ?? code}: ${stderr.slice(-2000)}`));
    });
  });
}

module.exports = { LAUNCHERS, runAlone, runPeers, runRanks };
