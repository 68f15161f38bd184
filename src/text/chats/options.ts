import { choice, integer, number, type OptionTable, other } from '../../base/options';
import type { Tokenizer } from '../tokenizer';
import { LOSS_ON, type LossOn } from './samples';

export interface ChatDatasetOptions {
  /** The tokenizer, whose chat template renders conversations. */
  tokenizer: Tokenizer;
  /** Most tokens of a sample, an integer >= 2: the length of the rows into which samples are packed. */
  seqLen: number;
  /** Files for validation. Default: the last samples, as many as `validationFraction` says. */
  validation?: readonly string[] | undefined;
  /** Share of the samples, the last ones, that validate where no files do, in [0, 1). Default 0.1. */
  validationFraction?: number | undefined;
  /** What is learnt: what the assistant wrote, or everything. Default 'assistant'. */
  lossOn?: LossOn | undefined;
  /** What becomes of a sample of more than seqLen tokens: it is left out, or cut behind them. Default 'skip'. */
  tooLong?: TooLong | undefined;
  /** Called with a sentence for each row that is left out or cut. Default: nobody is told. */
  onNote?: ((note: string) => void) | undefined;
}

export type TooLong = 'skip' | 'cut';

/** Flags of `sgemoe finetune`, which takes seqLen from the options of the run. */
export const CHAT_DATA_OPTIONS: OptionTable<ChatDatasetOptions> = {
  tokenizer: other<Tokenizer>(
    'a Tokenizer',
    (value) => typeof (value as Tokenizer | null)?.encode === 'function',
    { doc: 'whose chat template renders conversations' },
  ),
  seqLen: integer({ min: 2 }, { doc: 'most tokens of a sample: the length of the rows that samples share' }),
  validation: other<readonly string[]>('a list of paths', Array.isArray, {
    doc: 'files for validation, in the same form',
    absent: 'the last samples',
    cli: { flag: '--validation <files...>', absent: 'the last rows of --data' },
  }),
  validationFraction: number(
    { min: 0, below: 1 },
    {
      doc: 'share of the samples, the last ones, that validate where no files do',
      note: '0 is no validation',
      default: 0.1,
      cli: { flag: '--validation-fraction <x>' },
    },
  ),
  lossOn: choice(LOSS_ON, {
    doc: 'what is learnt: what the assistant wrote (the completion of a prompt), or everything',
    default: 'assistant',
    cli: { flag: '--loss-on <what>' },
  }),
  tooLong: choice(['skip', 'cut'] as const, {
    doc: 'what becomes of a sample that is longer than a row',
    default: 'skip',
    cli: { flag: '--too-long <what>' },
  }),
  onNote: other<(note: string) => void>('a function', (value) => typeof value === 'function', {
    doc: 'called with a sentence for each row that is left out or cut',
    absent: 'nobody is told',
  }),
};

export interface PreferenceDatasetOptions extends Omit<ChatDatasetOptions, 'lossOn'> {
  /**
   * How strongly the reference holds the model back, > 0: a smaller beta lets the model go farther from it for the same gain.
   * Default 0.1.
   */
  beta?: number | undefined;
}

const { lossOn: _, ...OF_SAMPLES } = CHAT_DATA_OPTIONS;

/** Options of `sgemoe finetune` for pairs. */
export const BETA_OPTION: OptionTable<Pick<PreferenceDatasetOptions, 'beta'>> = {
  beta: number(
    { above: 0 },
    {
      doc: 'of preference pairs: how strongly the model that the run starts from holds the tuned one back (DPO)',
      default: 0.1,
      cli: { flag: '--beta <x>' },
    },
  ),
};

export const PREFERENCE_DATA_OPTIONS: OptionTable<PreferenceDatasetOptions> = {
  ...OF_SAMPLES,
  ...BETA_OPTION,
};
