import type { Command } from 'commander';
import { backendInfo } from '../../backend';
import type { BackendInfo } from '../../backend/kernels';
import { packageVersion } from '../../base/version';
import type { CliContext } from '../terminal/io';

const EXAMPLES = `
Examples:
  $ sgemoe info
  $ sgemoe info --json
  $ SGEMOE_BACKEND=builtin sgemoe info
`;

export function addInfoCommand(program: Command, { io }: CliContext): void {
  program
    .command('info')
    .description('Tell what computes on this machine: backend, BLAS library, instruction set and threads.')
    .option('--json', 'print one JSON object instead of lines (default: lines)')
    .addHelpText('after', EXAMPLES)
    .action((options: { json?: boolean }) => {
      const info = { sgemoe: packageVersion(), node: process.version, ...backendInfo() };
      io.stdout.write(options.json ? `${JSON.stringify(info, null, 2)}\n` : describe(info));
    });
}

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
  const width = Math.max(...rows.map(([label]) => label.length));
  return rows.map(([label, value]) => `${label.padEnd(width)}  ${value}\n`).join('');
}

function describeMatrixUnit({ matrixUnit, matmul }: BackendInfo): string {
  if (matrixUnit === 'none') return 'none in use';
  const name = matrixUnit === 'amx' ? 'AMX' : 'a scalar model of AMX, for tests';
  return `${name}: prompts by bfloat16 matrices${matmul === 'split' ? ', large float32 products' : ''}`;
}

/** One line for the head of a run. */
export function describeBackend({ backend, blas, instructionSet, threads }: BackendInfo): string {
  const library =
    blas === null ? backend : [blas.name, blas.version, blas.core && `(${blas.core})`].join(' ');
  return `${library.trim()}, ${instructionSet}, ${threads} thread${threads === 1 ? '' : 's'}`;
}
