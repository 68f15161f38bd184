'use strict';
const path = require('node:path');
const { messageOf } = require('../lib/command');
const { peerEnvironment } = require('./environment');
const { Session } = require('./session');

const OURS = path.join(__dirname, 'ours.js');
/** The peers in Python: their programs, and whether they come in forms, which are computed from our weights. */
const PROGRAMS = [
  { peer: 'numpy', name: 'NumPy', file: 'numpy_peer.py' },
  { peer: 'torch', name: 'PyTorch', file: 'torch_peer.py', hasForms: true },
  { peer: 'mixtral', name: 'Mixtral of transformers', file: 'mixtral_peer.py', hasForms: true },
];
const FORMS = ['eager', 'compile'];

/**
 * One of those that take turns: a process, started when it is needed. With several forms, a peer has a member of each.
 * @typedef {object} Member
 * @property {string} key 'ours', or a peer's, with its form
 * @property {string} [peer] what its scenarios call it
 * @property {string} [form]
 * @property {boolean} [sameWeights] whether it begins with our weights, so that its numbers must be ours
 * @property {() => Promise<Session>} [start]
 * @property {Session} [session]
 */

/**
 * Ours, and those of the peers of some scenarios that can be started.
 * @param {{ python: string, forms: string[], precisions: string[], threads?: number, limit?: number }} options
 * @param {import('./scenarios').PeerScenario[]} scenarios
 * @param {(sentence: string) => void} say what is left out, and why
 * @returns {Promise<Member[]>} ours first
 */
async function startMembers({ python, forms, precisions, threads, limit }, scenarios, say) {
  /** @type {Record<string, string | undefined>} */
  const environment = { ...process.env, NODE_NO_WARNINGS: '1' };
  if (threads !== undefined) environment.SGEMOE_THREADS = String(threads);
  const ourStart = (args) => () => Session.start(process.execPath, [OURS, ...args], environment);
  const ours = { key: 'ours', start: ourStart([]), session: await ourStart([])() };
  /** @type {Member[]} */
  const members = [ours];
  const theirs = peerEnvironment(ours.session.hello);
  for (const { peer, name, file, hasForms } of PROGRAMS) {
    if (!scenarios.some(({ peers }) => peers.some((each) => each === peer))) continue;
    for (const form of hasForms ? forms : [undefined]) {
      const args = [path.join(__dirname, file), ...(form ? [form] : [])];
      const start = () => Session.start(python, args, theirs, limit);
      const key = form ? `${peer}-${form}` : peer;
      try {
        members.push({ key, peer, form, sameWeights: hasForms, start, session: await start() });
      } catch (error) {
        say(`${form ? `${name}, ${form},` : name} is left out, ${messageOf(error)}`);
      }
    }
  }
  if (precisions.includes('bfloat16')) {
    members.push({ key: 'float32', peer: 'float32', sameWeights: true, start: ourStart(['float32']) });
  }
  return members;
}

/**
 * Those who take part in a scenario. NumPy computes in float32 alone; there is nothing to compile in what is run once.
 * @param {import('./scenarios').PeerScenario} scenario
 * @param {string} precision
 * @param {Member[]} members
 */
function membersOf({ peers, work }, precision, members) {
  return members.filter(({ key, peer, form }) => {
    if (key === 'ours') return true;
    if (peer === 'float32') return precision === 'bfloat16';
    if (peer === 'numpy' && precision !== 'float32') return false;
    return peers.some((each) => each === peer) && !(work === 'cold' && form === 'compile');
  });
}

module.exports = { FORMS, membersOf, startMembers };
