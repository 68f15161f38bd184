/**
 * The configurations of deploy/ with the balancers themselves, in front of two replicas. Debian's packages haproxy and nginx
 * have them; .ci/full installs both. Where one is missing, its tests are skipped and say so.
 */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { ByteTokenizer, MoETransformer } from '../../src';
import { SMALL } from '../helpers/smallModel';
import {
  type Balancer,
  complaint,
  isInstalled,
  type Replica,
  startBalancer,
  startReplica,
} from './balancers';

let folder: string;
let model: string;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'sgemoe-balancers-'));
  model = join(folder, 'model');
  // A step takes some milliseconds, so that streams are running whenever something happens.
  const sizes = { hiddenDim: 256, headDim: 32, nLayers: 4, ffnDim: 512, vocabSize: 256, maxSeqLen: 2048 };
  await MoETransformer.create({ ...SMALL, ...sizes }, { seed: 1 }).save(model, new ByteTokenizer().files());
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const TOKENS = 60;
const BODY = { prompt: 'a', max_tokens: TOKENS, ignore_eos: true };

/** Asks; `id` is what the replicas' logs call the request. A connection that is closed before an answer begins is tried anew so often. */
async function ask(
  url: string,
  id: string,
  body: object,
  headers: Record<string, string> = {},
  retries = 0,
): Promise<{ status: number; text: string }> {
  const send = () =>
    fetch(`${url}/v1/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'x-request-id': id, ...headers },
      body: JSON.stringify(body),
    });
  let sent = send();
  for (let left = retries; left > 0; left--) sent = sent.catch(send);
  const response = await sent;
  return { status: response.status, text: await response.text() };
}

/** Whether an answer has all of its tokens. */
function isWhole({ status, text }: { status: number; text: string }, stream: boolean): boolean {
  const end = stream ? text.includes('"finish_reason":"length"') && text.endsWith('data: [DONE]\n\n') : true;
  return status === 200 && end && (stream || JSON.parse(text).usage.completion_tokens === TOKENS);
}

/** Eight clients that ask without a pause, half of them for streams; returns the ids asked and those without a whole answer. */
async function load(
  url: string,
  until: () => boolean,
  retries: number,
): Promise<{ asked: string[]; lost: string[] }> {
  const asked: string[] = [];
  const lost: string[] = [];
  const client = async (i: number) => {
    for (let count = 0; !until(); count++) {
      const id = `load-${i}-${count}`;
      const stream = i % 2 === 0;
      asked.push(id);
      const asking = ask(url, id, { ...BODY, stream }, { 'x-prefix-key': id }, retries);
      const answer = await asking.catch((error: Error) => {
        return { status: 0, text: `${error.message} ${error.cause}` };
      });
      if (!isWhole(answer, stream)) lost.push(`${id}: ${answer.status} ${answer.text.slice(0, 200)}`);
    }
  };
  await Promise.all(Array.from({ length: 8 }, (_, i) => client(i)));
  return { asked, lost };
}

/** A stream, to whose first bytes this waits; `whole` tells at its end whether it came to it. */
async function begin(url: string, id: string, key: string): Promise<{ whole: Promise<boolean> }> {
  const response = await fetch(`${url}/v1/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', 'x-request-id': id, 'x-prefix-key': key },
    body: JSON.stringify({ ...BODY, max_tokens: 500, stream: true }),
  });
  const reader = (response.body as ReadableStream<Uint8Array>).getReader();
  let text = Buffer.from((await reader.read()).value ?? '').toString();
  const rest = async () => {
    for (let read = await reader.read(); !read.done; read = await reader.read())
      text += Buffer.from(read.value).toString();
    return text.endsWith('data: [DONE]\n\n');
  };
  return { whole: rest().catch(() => false) };
}

const sleep = (ms: number) => new Promise((done) => setTimeout(done, ms));

/** Waits for logs, which come after the answers that they tell of; ten seconds at most, then the test says what is missing. */
async function logged(isThere: () => boolean): Promise<void> {
  for (let waited = 0; waited < 10_000 && !isThere(); waited += 20) await sleep(20);
}

for (const program of ['haproxy', 'nginx'] as const) {
  const found = isInstalled(program);
  if (!found) console.log(`${program} is not installed (apt-get install ${program}): its tests are skipped.`);

  describe.skipIf(!found)(`${program} in front of two replicas`, () => {
    let replicas: Replica[];
    let balancer: Balancer;
    let place: string;
    beforeEach(async () => {
      place = join(folder, `${program}-${Math.random()}`);
      mkdirSync(place);
      replicas = await Promise.all(
        [1, 2].map(() => startReplica(model, ['--drain-delay', '5', '--grace', '60', '--max-batch', '8'])),
      );
      balancer = await startBalancer(
        program,
        place,
        replicas.map(({ port }) => port),
      );
    });
    afterEach(async () => {
      await balancer.stop();
      for (const { child } of replicas) child.kill('SIGKILL');
      await Promise.all(replicas.map(({ ended }) => ended));
    });

    it('the file passes its own check', () => expect(complaint(program, place)).toBeNull());

    it('equal prefix keys go to one replica, different ones to both', async () => {
      const keys = Array.from({ length: 12 }, (_, i) => `key-${i}`);
      const short = { ...BODY, max_tokens: 1 };
      // HAProxy spreads what runs at the same time, and counts a request for a moment longer than its client does.
      const alone = async (id: string, body: object, headers: Record<string, string> = {}) => {
        await ask(balancer.url, id, body, headers);
        await sleep(100);
      };
      for (const key of keys) {
        for (const turn of [1, 2]) await alone(`${key}.header.${turn}`, short, { 'x-prefix-key': key });
        const named = { ...short, prompt_cache_key: key };
        for (const turn of [1, 2]) await alone(`${key}.body.${turn}`, { ...named, prompt: `turn ${turn}` });
      }
      const all = () => replicas.map(({ answered }) => answered());
      await logged(() => all().flat().length >= keys.length * 4);
      const [first, second] = all();
      expect(first.length + second.length).toBe(keys.length * 4);
      const mine = (ids: string[], key: string) => ids.filter((id) => id.startsWith(`${key}.`)).length;
      const placesOf = keys.map((key) => [mine(first, key), mine(second, key)]);
      // The header and the field are the same text, so they are the same place.
      expect(placesOf.every((counts) => counts.includes(4) && counts.includes(0))).toBe(true);
      expect(first.length > 0 && second.length > 0).toBe(true);
    });

    it('a replica that drains under load loses no request, and none is computed twice', async () => {
      let stopped = false;
      // nginx closes idle connections when it reads its file anew, also one on which a request is on its way.
      const loading = load(balancer.url, () => stopped, program === 'nginx' ? 2 : 0);
      await sleep(3000);
      if (program === 'nginx') {
        balancer.markDown([replicas[0].port]);
        await sleep(1000);
      }
      replicas[0].child.kill('SIGTERM');
      expect(await replicas[0].ended).toBe(0);
      const before = replicas[1].answered().length;
      await sleep(2000);
      stopped = true;
      const { asked, lost } = await loading;
      expect(lost).toEqual([]);
      const answered = () => replicas.flatMap((replica) => replica.answered());
      await logged(() => answered().length >= asked.length);
      expect(answered().toSorted()).toEqual(asked.toSorted());
      expect(replicas[0].answered().length).toBeGreaterThan(0);
      expect(replicas[1].answered().length).toBeGreaterThan(before);
    });

    it('a killed replica cuts its streams, which are not begun again, and later requests go to the other one', async () => {
      // Keys that lead to both replicas.
      const keys = Array.from({ length: 8 }, (_, i) => `key-${i}`);
      const running = await Promise.all(keys.map((key, i) => begin(balancer.url, `long-${i}`, key)));
      replicas[0].child.kill('SIGKILL');
      await replicas[0].ended;
      const wholes = await Promise.all(running.map(({ whole }) => whole));
      expect(wholes).toContain(false);
      const count = wholes.filter((whole) => whole).length;
      const begun = () => replicas[1].answered().filter((id) => id.startsWith('long-'));
      await logged(() => begun().length >= count);
      expect(begun()).toHaveLength(count);
      for (let i = 0; i < 8; i++) {
        const answer = await ask(balancer.url, `later-${i}`, BODY, { 'x-prefix-key': `key-${i}` });
        expect(isWhole(answer, false), answer.text).toBe(true);
      }
    });
  });
}
