/** Fields that clients send and that change nothing here, and fields that can't be honoured. */

/** A field that is taken without effect. */
export interface IdleField {
  readonly doc: string;
  /** The values that it may have; any if there are none. */
  readonly values?: readonly unknown[] | undefined;
}

export type IdleFields = Readonly<Record<string, IdleField>>;

/** Why a field is refused, by name: it completes "'x' is not supported: ...". */
type RefusedFields = Readonly<Record<string, string>>;

/** Taken without effect by every route that computes. */
const ANYWHERE: IdleFields = {
  user: { doc: 'nothing is kept by user' },
};

export const IDLE_COMMON: IdleFields = {
  ...ANYWHERE,
  metadata: { doc: 'nothing is kept' },
  store: { doc: 'nothing is kept' },
  safety_identifier: { doc: 'nothing is kept by user' },
  prompt_cache_key: { doc: 'every common beginning is reused' },
  prompt_cache_retention: { doc: 'a beginning is kept until its place is needed' },
  service_tier: { doc: 'all requests are served alike' },
};

export const IDLE_CHAT: IdleFields = {
  verbosity: { doc: 'the model has no such setting' },
  modalities: { doc: 'answers are texts', values: [['text']] },
  function_call: { doc: 'calls have `tools`', values: ['none', 'auto'] },
};

export const IDLE_EMBEDDING: IdleFields = ANYWHERE;

export const REFUSED_CHAT: RefusedFields = {
  functions: '`tools` has taken its place',
  audio: 'the model reads and writes text only',
  prediction: 'nothing would be gained by it',
  web_search_options: 'the server does not search the web',
  moderation: 'nothing moderates here',
};
