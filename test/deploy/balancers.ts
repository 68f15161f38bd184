/** Replicas of `sgemoe serve` behind HAProxy or nginx, which run with the configurations of deploy/. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join, resolve } from 'node:path';

const ROOT = resolve(__dirname, '../..');
const MAIN = join(ROOT, 'dist/cli/main.js');

/** Debian puts them where only root's PATH leads. */
const env = { ...process.env, PATH: `${process.env.PATH}:/usr/sbin` };

export function isInstalled(program: 'haproxy' | 'nginx'): boolean {
  return spawnSync(program, ['-v'], { env }).status === 0;
}

export interface Replica {
  child: ChildProcess;
  port: number;
  /** The ids of the requests of /v1 that it has answered, one for each answer. */
  answered: () => string[];
  ended: Promise<number | null>;
}

export async function startReplica(model: string, args: readonly string[]): Promise<Replica> {
  const child = spawn(process.execPath, [MAIN, 'serve', model, '--port', '0', ...args]);
  let [log, errors] = ['', ''];
  child.stdout.on('data', (text) => {
    log += text;
  });
  const ended = new Promise<number | null>((done) => child.once('close', done));
  const port = await new Promise<number>((found, fail) => {
    child.stderr.on('data', (text) => {
      errors += text;
      const [, digits] = /served at http:\S+:(\d+)\n/.exec(errors) ?? [];
      if (digits !== undefined) found(Number(digits));
    });
    void ended.then(() => fail(new Error(errors)));
  });
  const answered = () =>
    log
      .split('\n')
      .filter((line) => line.includes('"request completed"') && line.includes('"/v1/'))
      .map((line) => (JSON.parse(line) as { requestId: string }).requestId);
  return { child, port, answered, ended };
}

export interface Balancer {
  url: string;
  /** Writes the configuration anew, with these replicas marked as `down`, and makes the balancer read it. nginx alone. */
  markDown(ports: readonly number[]): void;
  stop(): Promise<void>;
}

/** A port that was free a moment ago. */
function freePort(): Promise<number> {
  return new Promise((found) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address() as { port: number };
      server.close(() => found(port));
    });
  });
}

/** The configuration of deploy/ with other addresses. @throws if it doesn't have those that it is known to have. */
function configuration(file: string, port: number, replicas: readonly number[]): string {
  const changes: [string, string][] = [
    [file.includes('nginx') ? 'listen 8080;' : 'bind :8080', `${port}`],
    ['10.0.0.1:8000', `127.0.0.1:${replicas[0]}`],
    ['10.0.0.2:8000', `127.0.0.1:${replicas[1]}`],
  ];
  changes[0][1] = changes[0][0].replace('8080', `127.0.0.1:${port}`).replace(':127', '127');
  return changes.reduce(
    (text, [from, to]) => {
      if (!text.includes(from)) throw new Error(`${file} does not have ${from}`);
      return text.replace(from, to);
    },
    readFileSync(join(ROOT, 'deploy', file), 'utf8'),
  );
}

/** The arguments and files of a program, in a folder of its own. */
function commandOf(program: 'haproxy' | 'nginx', folder: string, text: string): string[] {
  if (program === 'haproxy') {
    writeFileSync(join(folder, 'haproxy.cfg'), text);
    return ['-f', join(folder, 'haproxy.cfg')];
  }
  writeFileSync(join(folder, 'site.conf'), text);
  const paths = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
    .map((name) => `${name}_temp_path ${join(folder, name)};`)
    .join(' ');
  const head = `pid ${join(folder, 'pid')}; worker_processes 1; events {}`;
  writeFileSync(
    join(folder, 'nginx.conf'),
    `${head} http { access_log off; ${paths} include ${join(folder, 'site.conf')}; }`,
  );
  return ['-p', folder, '-c', join(folder, 'nginx.conf'), '-e', 'stderr'];
}

/** What the program's own check of the file says; null if it is content. */
export function complaint(program: 'haproxy' | 'nginx', folder: string): string | null {
  const file = program === 'haproxy' ? 'haproxy.cfg' : 'nginx.conf';
  const args = commandOf(program, folder, configuration(file, 8080, [8001, 8002]));
  const { status, stderr } = spawnSync(program, [...args, program === 'haproxy' ? '-c' : '-t'], { env });
  return status === 0 ? null : stderr.toString();
}

export async function startBalancer(
  program: 'haproxy' | 'nginx',
  folder: string,
  replicas: readonly number[],
): Promise<Balancer> {
  const port = await freePort();
  const url = `http://127.0.0.1:${port}`;
  const text = configuration(program === 'haproxy' ? 'haproxy.cfg' : 'nginx.conf', port, replicas);
  const args = commandOf(program, folder, text);
  const foreground = program === 'haproxy' ? ['-db'] : ['-g', 'daemon off;'];
  const child = spawn(program, [...args, ...foreground], { env, stdio: ['ignore', 'ignore', 'pipe'] });
  let errors = '';
  child.stderr.on('data', (piece) => {
    errors += piece;
  });
  const ended = new Promise((done) => child.once('close', done));
  const isUp = async () => (await fetch(`${url}/ready`).catch(() => null))?.status === 200;
  while (!(await isUp())) {
    if (child.exitCode !== null) throw new Error(errors);
    await new Promise((done) => setTimeout(done, 50));
  }
  return {
    url,
    markDown(ports) {
      const marked = ports.reduce(
        (all, each) => all.replace(`127.0.0.1:${each} `, `127.0.0.1:${each} down `),
        text,
      );
      if (program !== 'nginx' || marked === text) throw new Error('there is nothing to mark');
      writeFileSync(join(folder, 'site.conf'), marked);
      child.kill('SIGHUP');
    },
    async stop() {
      child.kill('SIGTERM');
      await ended;
    },
  };
}
