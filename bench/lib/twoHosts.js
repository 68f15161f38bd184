'use strict';
/**
 * Two hosts on one machine, for bench/distributed.js and the tests of ranks: a network namespace and a host name each, joined by a veth
 * pair. The namespaces have no names outside, so nothing is left of them when the processes in them have ended. Linux alone, as root.
 */
const { execFileSync, spawn, spawnSync } = require('node:child_process');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { setTimeout: sleep } = require('node:timers/promises');

const DEVICE = 'wire';
const NETWORK = '10.99.7';
const ADDRESSES = [`${NETWORK}.1`, `${NETWORK}.2`];
/** Network, host name, and mounts for a /sys that shows the former. */
const SPACES = ['-n', '-u', '-m'];
/** The shaper's bucket must hold what the kernel sends at once, 64 KiB and more; a large one lets a burst through unshaped. */
const BURST_BYTES = 2 ** 18;

/** Each variant of MPI over the veth pair alone, by addresses: the hosts know no names of each other. */
const LAUNCHES = {
  openmpi: (agent) => [
    'mpirun.openmpi',
    ...['-H', ADDRESSES.map((address) => `${address}:1`).join(), '--bind-to', 'none'],
    ...['--mca', 'plm_rsh_agent', agent, '--mca', 'pml', 'ob1', '--mca', 'btl', 'self,tcp'],
    ...['--mca', 'btl_tcp_if_include', `${NETWORK}.0/24`, '--mca', 'oob_tcp_if_include', `${NETWORK}.0/24`],
  ],
  mpich: (agent) => [
    ...['env', 'UCX_TLS=tcp,self', 'mpirun.mpich'],
    ...['-launcher', 'ssh', '-launcher-exec', agent, '-hosts', ADDRESSES.join(), '-ppn', '1'],
  ],
};

class TwoHosts {
  /** The processes that hold the namespaces; they end with this one, since their input does. */
  #holders;
  #folder = fs.mkdtempSync(path.join(os.tmpdir(), 'sgemoe-hosts-'));

  /** Why this machine can't have them, as a sentence; null where it can. */
  static obstacle() {
    if (process.platform !== 'linux') return 'namespaces need Linux.';
    const script = [
      'hostname try && mount -t sysfs sysfs /sys && ip link add name try0 type veth peer name try1',
      `tc qdisc add dev try0 root tbf rate 1gbit burst ${BURST_BYTES} latency 20ms`,
    ].join(' && ');
    const { error, status, stderr } = spawnSync('unshare', [...SPACES, 'sh', '-c', script], {
      encoding: 'utf8',
    });
    if (error) return `unshare does not start: ${error.message}.`;
    return status === 0 ? null : `no namespaces with a shaped veth pair: ${stderr.trim()}.`;
  }

  /** @throws Error where `obstacle` has a sentence */
  static async make() {
    const hosts = new TwoHosts(ADDRESSES.map((_, i) => holdSpaces(`host${i + 1}`)));
    try {
      await Promise.all(hosts.#holders.map(isReady));
      const [first, second] = hosts.#holders.map(({ pid }) => String(pid));
      const pair = ['type', 'veth', 'peer', 'name', DEVICE, 'netns', second];
      execFileSync('ip', ['link', 'add', DEVICE, 'netns', first, ...pair]);
      for (const [i, address] of ADDRESSES.entries()) {
        hosts.#run(i, 'ip', 'addr', 'add', `${address}/24`, 'dev', DEVICE);
        hosts.#run(i, 'ip', 'link', 'set', DEVICE, 'up');
      }
      hosts.#writeAgent();
      return hosts;
    } catch (error) {
      hosts.close();
      throw error;
    }
  }

  constructor(holders) {
    this.#holders = holders;
  }

  /**
   * A command line that runs what follows on a rank of each host: `-n 2 program ...`.
   * @param {'openmpi' | 'mpich'} mpi
   * @returns {[program: string, ...args: string[]]}
   */
  launch(mpi) {
    return this.on(0, ...LAUNCHES[mpi](path.join(this.#folder, 'agent.sh')));
  }

  /**
   * A command line that runs a program on a host.
   * @param {number} host 0 or 1
   * @returns {[program: string, ...args: string[]]}
   */
  on(host, ...command) {
    return ['nsenter', '-t', String(this.#holders[host].pid), ...SPACES, '--', ...command];
  }

  /** Where PyTorch's gloo on the hosts finds its peers: the first host is its master. */
  get gloo() {
    return { MASTER_ADDR: ADDRESSES[0], GLOO_SOCKET_IFNAME: DEVICE };
  }

  /** Lets at most so many bits a second through, each way, from now on. */
  limit(gbitPerSecond) {
    const shaper = ['tbf', 'rate', `${Math.round(gbitPerSecond * 1e9)}bit`, 'burst', String(BURST_BYTES)];
    for (const i of [0, 1]) {
      this.#run(i, 'tc', 'qdisc', 'replace', 'dev', DEVICE, 'root', ...shaper, 'latency', '20ms');
    }
  }

  /** Bytes that have gone from one host to the other, in both directions together, with the headers of packets. */
  carriedBytes() {
    const { rx, tx } = this.#link(0).stats64;
    return rx.bytes + tx.bytes;
  }

  cut() {
    this.#run(0, 'ip', 'link', 'set', DEVICE, 'down');
  }

  /** Returns once the hosts reach each other again. */
  async mend() {
    this.#run(0, 'ip', 'link', 'set', DEVICE, 'up');
    for (const host of [0, 1]) {
      while (this.#link(host).operstate !== 'UP') await sleep(20);
      // It remembers for a while that it hasn't found its neighbour.
      this.#run(host, 'ip', 'neigh', 'flush', 'dev', DEVICE);
    }
  }

  /** Ends whatever still runs on the hosts, such as a launcher's daemon that has lost its launcher. */
  close() {
    // A holder that failed early may still be in the network of this process.
    const own = networkOf(process.pid);
    const networks = this.#holders.map(({ pid }) => networkOf(pid)).filter((each) => each !== own);
    for (const pid of fs.readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
      const network = networkOf(pid);
      if (network !== null && networks.includes(network)) end(Number(pid));
    }
    fs.rmSync(this.#folder, { recursive: true, force: true });
  }

  #link(host) {
    return JSON.parse(this.#run(host, 'ip', '-s', '-j', 'link', 'show', 'dev', DEVICE))[0];
  }

  #run(host, ...command) {
    const [program, ...args] = this.on(host, ...command);
    return execFileSync(program, args, { encoding: 'utf8' });
  }

  /** A program in place of ssh: agent.sh [options] address command ... */
  #writeAgent() {
    const enter = ADDRESSES.map(
      (address, i) => `${address}) exec ${this.on(i, 'sh', '-c').join(' ')} "$*" ;;`,
    );
    const lines = [
      '#!/bin/sh',
      'while case $1 in -*) true ;; *) false ;; esac; do shift; done',
      ...['host=$1', 'shift', 'case $host in', ...enter, 'esac', 'echo "no host $host" >&2', 'exit 1'],
    ];
    fs.writeFileSync(path.join(this.#folder, 'agent.sh'), `${lines.join('\n')}\n`, { mode: 0o755 });
  }
}

function networkOf(pid) {
  try {
    return fs.readlinkSync(`/proc/${pid}/ns/net`);
  } catch {
    return null; // it has ended
  }
}

function end(pid) {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // it has ended
  }
}

/** Its input is a pipe from this process: `cat` ends with it. */
function holdSpaces(name) {
  const script = `hostname ${name} && mount -t sysfs sysfs /sys && ip link set lo up && echo ready && exec cat`;
  const args = [...SPACES, 'sh', '-c', script];
  return spawn('unshare', args, { stdio: ['pipe', 'pipe', 'pipe'] });
}

function isReady(holder) {
  return new Promise((done, fail) => {
    let said = '';
    holder.stdout.once('data', done);
    holder.stderr.on('data', (data) => {
      said += data;
    });
    holder.on('error', fail);
    holder.on('close', (code) => fail(new Error(`a host ended with ${code}: ${said.trim()}`)));
  });
}

module.exports = { TwoHosts };
