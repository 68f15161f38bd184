/** The files of deploy/ name routes, metrics, flags and a program that exist. test/deploy/balancers.full.test.ts runs them. */
import { spawn } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parseAllDocuments } from 'yaml';
import { sgemoe } from '../cli/run';
import { openServer } from '../serve/servers';

const DEPLOY = resolve(__dirname, '../../deploy');
const read = (name: string) => readFileSync(join(DEPLOY, name), 'utf8');

// biome-ignore lint/suspicious/noExplicitAny: any YAML.
type Manifest = any;
const manifests = (name: string): Manifest[] =>
  parseAllDocuments(read(`kubernetes/${name}.yaml`), { uniqueKeys: true }).map((document) => {
    expect([...document.errors, ...document.warnings], name).toEqual([]);
    return document.toJS();
  });
const [deployment] = manifests('deployment');
const services = manifests('service');
const [hpa] = manifests('hpa');
const [adapter] = manifests('prometheus-adapter');
const { spec: pod, metadata } = deployment.spec.template;
const [container] = pod.containers;

let server: Awaited<ReturnType<typeof openServer>>;
let help: string;
beforeAll(async () => {
  server = await openServer();
  help = (await sgemoe(['serve', '--help'])).stdout;
});
afterAll(() => server.close());

const flagsIn = (args: readonly string[]) => args.filter((arg) => arg.startsWith('--'));
const statusOf = async (path: string) => (await fetch(`${server.url}${path}`)).status;
const numberAfter = (args: readonly string[], flag: string) => Number(args[args.indexOf(flag) + 1]);

describe('the manifests for Kubernetes', () => {
  it('are all of the folder', () => {
    expect(readdirSync(join(DEPLOY, 'kubernetes')).sort()).toEqual(
      ['deployment', 'hpa', 'mpijob', 'prometheus-adapter', 'service'].map((name) => `${name}.yaml`),
    );
  });

  it('probe routes that exist, and begin to drain by the one that a draining server refuses', async () => {
    const { startupProbe, readinessProbe, livenessProbe } = container;
    for (const { httpGet } of [startupProbe, readinessProbe, livenessProbe])
      expect(await statusOf(httpGet.path)).toBe(200);
    expect([readinessProbe.httpGet.path, livenessProbe.httpGet.path]).toEqual(['/ready', '/health']);
    expect(await statusOf(metadata.annotations['prometheus.io/path'])).toBe(200);
  });

  it('start `sgemoe serve` with flags that it has, whose times fit into the time before a pod is killed', () => {
    expect(flagsIn(container.args).filter((flag) => !help.includes(`${flag} `))).toEqual([]);
    const [delay, grace] = ['--drain-delay', '--grace'].map((flag) => numberAfter(container.args, flag));
    expect(pod.terminationGracePeriodSeconds).toBeGreaterThan(delay + grace);
    const { periodSeconds, failureThreshold } = container.readinessProbe;
    expect(delay).toBeGreaterThan(periodSeconds * failureThreshold);
  });

  it('belong together: labels, ports, names, and the port of the image', () => {
    const labels = deployment.spec.selector.matchLabels;
    expect(metadata.labels).toEqual(labels);
    const [{ name, containerPort }] = container.ports;
    for (const { spec } of services) {
      expect(spec.selector).toEqual(labels);
      expect(spec.ports).toEqual([{ name, port: containerPort, targetPort: name }]);
    }
    expect(`${containerPort}`).toBe(metadata.annotations['prometheus.io/port']);
    expect(read('Dockerfile')).toContain(`"--port", "${containerPort}"`);
    const { kind, apiVersion, metadata: own } = deployment;
    expect(hpa.spec.scaleTargetRef).toEqual({ apiVersion, kind, name: own.name });
    expect(hpa.spec.minReplicas).toBe(deployment.spec.replicas);
  });

  it('scale by a metric that /metrics has and that the adapter passes on', async () => {
    const { name } = hpa.spec.metrics[0].pods.metric;
    const text = await (await fetch(`${server.url}/metrics`)).text();
    expect(text).toMatch(new RegExp(`^# TYPE ${name} gauge$`, 'm'));
    const [rule] = adapter.rules.custom;
    expect(rule.seriesQuery).toMatch(new RegExp(`^${name}\\{`));
    expect(name).toMatch(new RegExp(rule.name.matches));
  });

  it('run as nobody, whom the image has, too, and write nothing', () => {
    const { runAsNonRoot, runAsUser, runAsGroup } = pod.securityContext;
    expect(runAsNonRoot).toBe(true);
    expect(read('Dockerfile')).toContain(`\nUSER ${runAsUser}:${runAsGroup}\n`);
    expect(container.securityContext.readOnlyRootFilesystem).toBe(true);
  });
});

describe('the job that trains', () => {
  const [{ spec }] = manifests('mpijob');
  const { Launcher, Worker } = spec.mpiReplicaSpecs;
  const [launcher] = Launcher.template.spec.containers;
  const [worker] = Worker.template.spec.containers;
  const image = read('training.Dockerfile');

  it('starts a rank for each slot, with flags that `sgemoe train` has', async () => {
    const [script] = launcher.args;
    expect(/mpirun -n (\d+) /.exec(script)![1]).toBe(String(Worker.replicas * spec.slotsPerWorker));
    const train = script.slice(script.indexOf('sgemoe train'));
    const { stdout } = await sgemoe(['train', '--help']);
    const flags = train.match(/--[a-z-]+/g);
    expect(flags).toEqual(['--data', '--out', '--resume']);
    expect(flags.filter((flag: string) => !stdout.includes(`${flag} `))).toEqual([]);
  });

  it('has the image, user, key, port and program of its Dockerfile', () => {
    expect(launcher.image).toBe(worker.image);
    for (const { securityContext: who } of [launcher, worker])
      expect(image).toContain(`\nUSER ${who.runAsUser}:${who.runAsGroup}\n`);
    expect(image).toContain(`'HostKey ${spec.sshAuthMountPath}/id_rsa'`);
    expect(image.match(/'Port (\d+)'/g)).toEqual(
      Array(2).fill(`'Port ${worker.readinessProbe.tcpSocket.port}'`),
    );
    expect(image).toContain('openmpi-bin');
    expect(spec.mpiImplementation).toBe('OpenMPI');
  });

  it('lets all see the folder of the run', () => {
    const mounts = [launcher, worker].map(({ volumeMounts }) => volumeMounts[0].mountPath);
    expect(mounts).toEqual(['/data', '/data']);
    expect(launcher.args[0]).toContain('run=/data/');
  });
});

describe('the Dockerfile', () => {
  const text = read('Dockerfile').replaceAll('\\\n', ' ');
  const instruction = (name: string): string[] =>
    [...text.matchAll(new RegExp(`^${name} (.*)$`, 'gm'))].map(([, rest]) => rest.trim());
  const json = (rest: string): string[] => JSON.parse(rest.slice(rest.indexOf('[')));

  it('has a stage that installs, and a last one that takes only the modules from it', () => {
    expect(instruction('FROM')).toHaveLength(2);
    expect(instruction('COPY').at(-1)).toBe('--from=install /app/node_modules node_modules');
  });

  it('starts the program of the package with flags that it has', () => {
    const [node, main, command, ...args] = json(instruction('ENTRYPOINT')[0]);
    expect([node, command]).toEqual(['/nodejs/bin/node', 'serve']);
    expect(existsSync(join(DEPLOY, '..', main.replace('node_modules/sgemoe/', '')))).toBe(true);
    expect(flagsIn(args).filter((flag) => !help.includes(`${flag} `))).toEqual([]);
    expect(json(instruction('CMD')[0])).toEqual([container.args[0]]);
  });

  it('tells health by a command that asks the server', async () => {
    const [node, ...args] = json(instruction('HEALTHCHECK')[0]);
    expect(node).toBe('/nodejs/bin/node');
    const check = (url: string) => {
      const asked = args.map((arg) => arg.replace('http://127.0.0.1:8000', url));
      expect(asked).not.toEqual(args);
      return new Promise((done) => spawn(process.execPath, asked).once('close', done));
    };
    const urls = [server.url, `${server.url}/nothing`, 'http://127.0.0.1:9'];
    expect(await Promise.all(urls.map(check))).toEqual([0, 1, 1]);
  });
});

describe('the balancers', () => {
  it('send to another replica only what has not reached one', () => {
    expect(read('haproxy.cfg')).toMatch(/^ *retry-on conn-failure$/m);
    expect(read('nginx.conf')).toMatch(/^ *proxy_next_upstream error timeout;$/m);
  });

  it('HAProxy asks the route that a draining server refuses', async () => {
    const [, path] = /http-check send meth GET uri (\S+)/.exec(read('haproxy.cfg'))!;
    expect(path).toBe('/ready');
    expect(await statusOf(path)).toBe(200);
  });
});
