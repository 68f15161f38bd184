import type { Command } from 'commander';
import { formatBytes } from '../../base/formatBytes';
import { ADAPTER_CONFIG, CONFIG_FILE } from '../../checkpoint/checkpoint';
import type { HubOptions, PullProgress } from '../../hf/hub/hubOptions';
import { isOfHub, modelPath } from '../../hf/hub/modelPath';
import { formatDuration, formatPercent } from '../terminal/format';
import { Interrupted, interruptible } from '../terminal/interrupt';
import type { CliIo } from '../terminal/io';
import { JobProgress } from '../terminal/liveLine';
import { asUsage, UsageError } from '../terminal/usageError';
import { requireCheckpoint } from './inputPaths';

export interface HubCliOptions {
  revision?: string;
  offline?: boolean;
}

/** What a command that takes a model says about its argument. */
export const MODEL_ARGUMENT =
  "folder of a checkpoint, a GGUF file, or a model of the hub: 'org/name', 'org/name:Q4_K_M'";

/** What a command says about its argument that runs a model, which may be that of a folder of adapters. */
export const RUNNABLE_ARGUMENT = `${MODEL_ARGUMENT}; or a folder of adapters, whose base it names`;

/** Adds --adapter, of commands that run one model. */
export function addAdapterOption(command: Command): Command {
  return command.option(
    '--adapter <folder>',
    "adapter that the model computes with, of finetune --lora-targets or of Python's peft (default: none)",
  );
}

/** Adds the flags of commands that take a model of the hub. */
export function addHubOptions(command: Command): Command {
  return command
    .option(
      '--revision <name>',
      "branch, tag or commit of a model of the hub (default: that of the name, 'main')",
    )
    .option(
      '--offline',
      'take a model of the hub from the cache folder, without a request (default: HF_HUB_OFFLINE)',
    );
}

/** As `checkpointPath`, also for a folder of adapters. */
export function runnablePath(name: string, options: HubCliOptions, io: CliIo): Promise<string> {
  return checkpointPath(name, options, io, [CONFIG_FILE, ADAPTER_CONFIG]);
}

/** The path of the model that a command line names; what it must download is told on stderr. @throws UsageError, SgemoeError */
export async function checkpointPath(
  name: string,
  options: HubCliOptions,
  io: CliIo,
  files?: readonly string[],
): Promise<string> {
  if (await isOfHub(name)) return whileTold(options, io, (hub) => modelPath(name, hub, io.env));
  if (options.revision !== undefined) {
    throw new UsageError(`--revision goes with a model of the hub; ${name} is not one.`);
  }
  await requireCheckpoint(name, files);
  return name;
}

/** Runs a download that shows its progress on stderr and that an interrupt stops. */
export async function whileTold(
  { revision, offline }: HubCliOptions,
  io: CliIo,
  job: (hub: HubOptions) => Promise<string>,
): Promise<string> {
  const progress = new JobProgress(io.stderr);
  const onNote = (note: string) => {
    progress.clear();
    io.stderr.write(`${note}\n`);
  };
  const onProgress = downloadLine(progress);
  try {
    return await interruptible(io.signals, async (signal) => {
      const path = await job({ revision, offline, onNote, onProgress, signal });
      signal.throwIfAborted(); // an interrupt that came too late to stop the download stops the command
      return path;
    });
  } catch (error) {
    if (error instanceof Interrupted)
      error.message = 'stopped; what has arrived is kept, and the next download goes on from there.';
    return asUsage(() => {
      throw error;
    });
  } finally {
    progress.clear();
  }
}

function downloadLine(progress: JobProgress): (done: PullProgress) => void {
  let first: { bytes: number; at: number } | undefined;
  return ({ file, bytes, totalBytes }) => {
    const now = performance.now();
    first ??= { bytes, at: now };
    // Bytes per second; nothing has come yet at the first call.
    const rate = ((bytes - first.bytes) / Math.max(now - first.at, 1)) * 1000;
    const speed =
      rate > 0 ? `, ${formatBytes(rate)}/s, ${formatDuration((totalBytes - bytes) / rate)} left` : '';
    progress.update(
      () => `${formatPercent(bytes / totalBytes)} of ${formatBytes(totalBytes)}${speed}, ${file}`,
    );
  };
}
