import type { CompiledConstraint } from '../../sampling/constraints/constraint';
import { type ConstraintSource, constraintOf } from '../../sampling/constraints/options';
import type { VocabularyData } from '../../sampling/constraints/vocabularyData';
import type { Tokenizer } from '../../text/tokenizer';
import type { Job } from './job';
import type { Prompt, StepWork, TextLimits, TextResult, TextSource, TextTask, Work } from './messages';
import { needTokenizer } from './promptSource';
import { refuseTooLong } from './readTexts';
import { type TextJob, TextThread } from './textThread';
import { toolConstraints } from './toolAnswer';

/** Characters of a request from which it counts as long. */
const LONG = 2 ** 17;
const IDLE_MS = 60_000;

/** A job whose texts are read: work for a worker, or the answer. */
export interface TextListener {
  onPrepared(job: Job, work: StepWork): void;
}

/**
 * Turns the texts of jobs into ids in threads of their own. Long ones have a second thread, which starts when it is needed, so
 * that nobody's short prompt waits for them; it ends with a job that is given up.
 */
export class Texts {
  readonly #short: TextThread;
  readonly #long: TextThread;
  readonly #pending = new Map<Job, { thread: TextThread; textJob: TextJob }>();
  /** Made by the first request with constraints or tools, since it takes a while. */
  #vocabulary: VocabularyData | null = null;

  /** @param contextLength tokens that a text may have. */
  constructor(
    private readonly tokenizer: Tokenizer | null,
    private readonly contextLength: number,
    { templateTimeoutMs, tokenizeTimeoutMs }: TextLimits,
    private readonly listener: TextListener,
  ) {
    const limits = { templateTimeoutMs, tokenizeTimeoutMs };
    const setup = { role: 'text', tokenizer: tokenizer?.files() ?? null, limits } as const;
    this.#short = new TextThread({ setup, idleMs: null, endsOnCancel: false });
    this.#long = new TextThread({ setup, idleMs: IDLE_MS, endsOnCancel: true });
  }

  /** Starts the thread for short texts. */
  start(): void {
    if (this.tokenizer !== null) this.#short.start();
  }

  /** Waits until it has started. @throws SgemoeError SGEMOE_WORKER_DIED when it can't start. */
  async open(): Promise<void> {
    if (this.tokenizer !== null) await this.#short.open();
  }

  /** Number of jobs whose texts are not read yet. */
  get pending(): number {
    return this.#pending.size;
  }

  get jobs(): Job[] {
    return [...this.#pending.keys()];
  }

  /** Reads a job's texts; the listener gets it, at once if there are none. A job that can't go on fails. */
  submit(job: Job): void {
    const { work } = job;
    try {
      const ready = withoutTexts(work);
      if (ready !== null) this.listener.onPrepared(job, ready);
      else this.#send(job, this.#taskOf(work));
    } catch (error) {
      job.fail(error);
    }
  }

  /** Forgets a job that is settled. */
  forget(job: Job): void {
    const pending = this.#pending.get(job);
    if (pending === undefined) return;
    this.#pending.delete(job);
    pending.thread.cancel(pending.textJob);
  }

  keepAlive(wanted: boolean): void {
    this.#short.keepAlive(wanted);
    this.#long.keepAlive(wanted);
  }

  async terminate(): Promise<void> {
    await Promise.all([this.#short.terminate(), this.#long.terminate()]);
  }

  /** @throws SgemoeError SGEMOE_CONTEXT_FULL for a text that can't fit, SGEMOE_TOKENIZER_INVALID where there is no tokenizer. */
  #taskOf(work: Work): TextTask {
    const { mostBytesPerToken = Number.POSITIVE_INFINITY } = needTokenizer(this.tokenizer);
    if (work.kind === 'detokenize') return work;
    const sources = sourcesOf(work);
    const context = work.kind === 'tokenize' ? Number.POSITIVE_INFINITY : this.contextLength;
    for (const source of sources) {
      if ('text' in source) refuseTooLong(source.text, mostBytesPerToken, context);
    }
    const wantsVocabulary = this.#vocabulary === null && mayBeConstrained(work);
    return { kind: 'prompts', sources, constraints: constraintsOf(work), wantsVocabulary, context };
  }

  #send(job: Job, task: TextTask): void {
    const thread = lengthOf(task) > LONG ? this.#long : this.#short;
    const textJob: TextJob = {
      task,
      client: job.client,
      onDone: (result) => {
        this.#pending.delete(job);
        this.#finish(job, result);
      },
      onError: (error) => {
        this.#pending.delete(job);
        job.fail(error);
      },
    };
    this.#pending.set(job, { thread, textJob });
    thread.submit(textJob);
  }

  #finish(job: Job, result: TextResult): void {
    const { id, work } = job;
    if ('text' in result) job.deliver({ id, end: true, result: result.text });
    else if (work.kind === 'tokenize') job.deliver({ id, end: true, result: result.prompts[0].ids });
    else {
      this.#vocabulary ??= result.vocabulary;
      const vocabulary = mayBeConstrained(work) ? this.#vocabulary : null;
      this.listener.onPrepared(job, withPrompts(work, result.prompts, result.compiled, vocabulary));
    }
  }
}

/** Work whose texts are ids already; null for other work. */
function withoutTexts(work: Work): StepWork | null {
  if (work.kind !== 'generate' && work.kind !== 'embed') return null;
  const sources = sourcesOf(work);
  if (!sources.every((source) => 'ids' in source) || mayBeConstrained(work)) return null;
  return withPrompts(
    work,
    sources.map(({ ids }) => ({ ids, stop: null })),
    [],
    null,
  );
}

function withPrompts(
  work: Work,
  prompts: readonly Prompt[],
  compiled: readonly CompiledConstraint[],
  vocabulary: VocabularyData | null,
): StepWork {
  if (work.kind === 'generate') {
    const { source: _, ...rest } = work;
    return { ...rest, prompt: prompts[0], compiled, vocabulary };
  }
  const { sources: _, ...rest } = work as Extract<Work, { kind: 'embed' }>;
  return { ...rest, texts: prompts.map(({ ids }) => ids) };
}

function sourcesOf(work: Exclude<Work, { kind: 'detokenize' }>): readonly TextSource[] {
  return work.kind === 'embed' ? work.sources : [work.source];
}

/** Whether tokens of work may be held to a constraint: with tools, to arguments of a call whatever its name is. */
function mayBeConstrained(work: Work): boolean {
  return work.kind === 'generate' && (work.tools !== null || constraintOf(work.sampling) !== null);
}

/** The constraints that the tokens of work may be held to. */
function constraintsOf(work: Work): ConstraintSource[] {
  if (work.kind !== 'generate') return [];
  const own = constraintOf(work.sampling);
  const ofTools = work.tools === null ? [] : toolConstraints(work.tools);
  return own === null ? ofTools : [own, ...ofTools];
}

/** Characters, or ids, of a task. */
function lengthOf(task: TextTask): number {
  if (task.kind === 'detokenize') return task.ids.length;
  let sum = 0;
  for (const source of task.sources) {
    if ('text' in source) sum += source.text.length + (source.suffix?.length ?? 0);
    else if ('messages' in source) sum += JSON.stringify(source).length;
  }
  for (const { text } of task.constraints) sum += text.length;
  return sum;
}
