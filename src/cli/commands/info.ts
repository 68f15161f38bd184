import type { Command } from 'commander';
import { backendInfo } from '../../backend';
import { Distributed, type MpiLibrary } from '../../backend/collectives/distributed';
import type { BackendInfo } from '../../backend/kernels';
import { packageVersion } from '../../base/version';
import type { CliContext } from '../terminal/io';

const EXAMPLES = `
Examples:
  $ sgemoe info
  $ sgemoe info --json
  $ SGEMOE_BACKEND=builtin sgemoe info
  $ mpirun -n 4 sgemoe info
`;

export function addInfoCommand(program: Command, { io }: CliContext): void {
  program
    .command('info')
    .description('Tell what computes on this machine: backend, BLAS library, instruction set and threads.')
    .option('--json', 'print one JSON object instead of lines (default: lines)')
    .addHelpText('after', EXAMPLES)
    .action(async (options: { json?: boolean }) => {
      const run = await Distributed.init();
      const { rank, size: ranks, hosts, mpi } = run;
      const info = { sgemoe: packageVersion(), node: process.version, ...backendInfo() };
      const all = mpi === null ? info : { ...info, distributed: { ranks, hosts, mpi } };
      if (rank === 0) {
        const lines = mpi === null ? describe(info) : describe(info) + describeRanks(run, mpi);
        io.stdout.write(options.json ? `${JSON.stringify(all, null, 2)}\n` : lines);
      }
      await run.close();
    });
}

function describeRanks({ size, hosts }: Distributed, { version, path, abi }: MpiLibrary): string {
  const onHost = new Map<string, number>();
  for (const host of hosts) onHost.set(host, (onHost.get(host) ?? 0) + 1);
  const rows: [string, string][] = [
    ['ranks', `${size}: ${[...onHost].map(([host, ranks]) => `${ranks} on ${host}`).join(', ')}`],
    ['MPI', `${version} (ABI: ${abi})`],
    ['MPI file', path],
  ];
  return rows.map(([label, value]) => `${label.padEnd(LABEL_WIDTH)}  ${value}\n`).join('');
}

/** That of 'instruction set'. */
const LABEL_WIDTH = 15;

function describe(info: BackendInfo & { sgemoe: string; node: string }): string {
  const { blas } = info;
  const rows: [string, string][] = [
    ['sgemoe', info.sgemoe],
    ['Node', info.node],
    ['platform', info.platform],
    ['backend', info.backend],
    ['BLAS library', blas === null ? 'none' : `${blas.name} ${blas.version}`.trim()],
  ];
  if (blas !== null) {
    if (blas.core !== '') rows.push(['BLAS core', blas.core]);
    rows.push(['BLAS file', blas.path]);
  }
  rows.push(
    ['instruction set', info.instructionSet],
    ['block types', info.exactProducts ? 'multiplied as they are' : 'multiplied by activations in 8 bits'],
    ['matrix unit', describeMatrixUnit(info)],
    ['threads', String(info.threads)],
    ['addon', info.addonPath ?? 'none'],
  );
  info.notes.forEach((note, i) => {
    rows.push([i === 0 ? 'notes' : '', note]);
  });
  return rows.map(([label, value]) => `${label.padEnd(LABEL_WIDTH)}  ${value}\n`).join('');
}

const MATRIX_UNITS = {
  amx: 'AMX',
  model: 'a scalar model of AMX, for tests',
  vdpbf16ps: 'products of bfloat16 in vectors (VDPBF16PS)',
  bfmmla: 'products of bfloat16 in vectors (BFMMLA)',
  pairsModel: 'a scalar model of VDPBF16PS, for tests',
};

function describeMatrixUnit({ matrixUnit, matmul, exactProducts }: BackendInfo): string {
  if (matrixUnit === 'none') return 'none in use';
  const name = MATRIX_UNITS[matrixUnit];
  if (matrixUnit !== 'amx' && matrixUnit !== 'model') return `none, but ${name}: mixed precision`;
  const stored = exactProducts ? '' : ' and block types';
  const large = matmul === 'split' ? ', large float32 products' : '';
  return `${name}: mixed precision, prompts by bfloat16 matrices${stored}${large}`;
}

/** One line for the head of a run. */
export function describeBackend({ backend, blas, instructionSet, threads }: BackendInfo): string {
  const library =
    blas === null ? backend : [blas.name, blas.version, blas.core && `(${blas.core})`].join(' ');
  return `${library.trim()}, ${instructionSet}, ${threads} thread${threads === 1 ? '' : 's'}`;
}
