/** `mpirun -n 2 sgemoe serve` and `generate`: the tokens of one process, and what clients hear when a rank is killed. */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { ROOT } from '../backend/child';
import { canRun, environmentOf, FOUND, type Mpi, runRanks, staying } from '../backend/collectives/mpirun';
import { built } from '../helpers/built';
import { byteModel } from '../serve/engines';
import { errorOf, post } from '../serve/servers';

const CLI = join(ROOT, 'dist', 'cli', 'main.js');

let model: string;
beforeAll(async () => {
  model = mkdtempSync(join(tmpdir(), 'sgemoe-serve-ranks-'));
  const tokenizer = new built.ByteTokenizer().files().tokenizer;
  await byteModel({ maxSeqLen: 4096, nExperts: 5 }).save(model, { tokenizer });
});
afterAll(async () => {
  expect(await staying(model)).toEqual([]);
  rmSync(model, { recursive: true, force: true });
});

const PROMPT = 'Once upon a time';
const generate = (...more: string[]) => {
  const options = ['--prompt', PROMPT, '--temperature', '0', '--max-tokens', '24'];
  return [CLI, 'generate', model, ...options, ...more];
};

const started: ChildProcess[] = [];
afterEach(() => {
  // What a failed test has left.
  for (const child of started.splice(0)) if (child.exitCode === null) child.kill('SIGTERM');
});

/** A server on ranks, once rank 0 listens. */
async function startServer(mpi: Mpi, ranks: number, launcherArgs: readonly string[] = []) {
  const args = [CLI, 'serve', model, '--port', '0', '--log-level', 'silent'];
  const argv = [...mpi.args, ...launcherArgs, '-n', String(ranks), process.execPath, ...args];
  const child = spawn(mpi.launcher, argv, { env: environmentOf(mpi), stdio: ['ignore', 'pipe', 'pipe'] });
  let stderr = '';
  const ended = new Promise<number | null>((done) => child.once('close', done));
  const url = await new Promise<string>((found, fail) => {
    child.stderr.on('data', (data) => {
      stderr += data;
      const at = / is served at (\S+)/.exec(stderr);
      if (at !== null) found(at[1]);
    });
    void ended.then(() => fail(new Error(stderr)));
  });
  started.push(child);
  return { child, url, ended, stderr: () => stderr };
}

/** The processes below one, and their command lines. */
function ranksOf({ pid }: ChildProcess): Map<number, number> {
  const found = new Map<number, number>();
  for (const each of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      const [command, env] = ['cmdline', 'environ'].map((name) =>
        readFileSync(`/proc/${each}/${name}`, 'utf8').split('\0'),
      );
      if (command[0] !== process.execPath || !command.includes(model) || Number(each) === pid) continue;
      const rank = env.find((line) => /^(OMPI_COMM_WORLD_RANK|PMI_RANK)=/.test(line));
      if (rank !== undefined) found.set(Number(rank.split('=')[1]), Number(each));
    } catch {} // it has ended
  }
  return found;
}

const completion = { prompt: PROMPT, temperature: 0, ignore_eos: true };

describe.skipIf(!canRun(__filename)).each(FOUND.map((mpi) => ({ ...mpi, mpi })))('$name', ({ name, mpi }) => {
  it('generates the text of one process, and tells what is wrong once', async () => {
    const one = await runRanks(mpi, 1, generate(), { SGEMOE_MPI: 'none' });
    expect(one.code, one.stderr).toBe(0);
    for (const [ranks, ...more] of [[2], [4, '--expert-counts', '0,2,0,3']] as const) {
      const some = await runRanks(mpi, ranks, generate(...(more as string[])));
      expect(some.code, some.stderr).toBe(0);
      expect(some.stdout).toBe(one.stdout);
      expect(some.stderr.match(/tokens in/g)).toHaveLength(1);
    }
    const wrong = await runRanks(mpi, 2, generate('--expert-counts', '1,2'));
    expect(wrong.stderr.match(/^sgemoe: .*$/gm)).toEqual([
      "sgemoe: --expert-counts must add up to the model's 5 experts, got 3",
    ]);
    expect(wrong.code).toBe(2);
  });

  it('serves the text of one process, and ends in order', async () => {
    const one = await runRanks(mpi, 1, generate('--echo'), { SGEMOE_MPI: 'none' });
    const { url, child, ended, stderr } = await startServer(mpi, 2);
    const answer = await post(`${url}/v1/completions`, { ...completion, max_tokens: 24, echo: true });
    const { choices } = (await answer.json()) as { choices: { text: string }[] };
    // Open MPI gives its ranks a terminal, on which the text ends with a line break.
    expect(choices[0].text).toBe(mpi.name === 'openmpi' ? one.stdout.replace(/\r?\n$/, '') : one.stdout);
    process.kill(ranksOf(child).get(0)!, 'SIGTERM');
    expect(await ended, stderr()).toBe(0);
  });

  it.runIf(name === 'mpich')('ends when a rank was killed', async () => {
    const { child, ended } = await startServer(mpi, 2);
    process.kill(ranksOf(child).get(1)!, 'SIGKILL');
    expect(await ended).not.toBe(0);
  });

  // Open MPI ends the other ranks two seconds after one was killed, or leaves that to them.
  it.runIf(name === 'openmpi').each([[[]], [['--enable-recovery']]])(
    'tells its clients that a rank was killed, with %j',
    async (args) => {
      const { url, child, ended, stderr } = await startServer(mpi, 3, args);
      const stream = post(`${url}/v1/completions`, { ...completion, max_tokens: 4000, stream: true });
      const reader = (await stream).body!.getReader();
      await reader.read();
      process.kill(ranksOf(child).get(1)!, 'SIGKILL');
      let text = '';
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        text += new TextDecoder().decode(value);
      }
      expect(text.trimEnd().split('\n').at(-1), stderr()).toContain('"code":"ranks_lost"');
      expect((await fetch(`${url}/ready`)).status).toBe(503);
      const later = await post(`${url}/v1/completions`, { ...completion, max_tokens: 1 });
      expect(later.status).toBe(503);
      expect(await errorOf(later)).toMatchObject({
        code: 'ranks_lost',
        message: 'Rank 0 aborted the run: the process of rank 1 has ended',
      });
      const code = await ended;
      // With recovery the launcher calls it a success.
      if (args.length === 0) expect(code).not.toBe(0);
    },
  );
});
