/**
 * Every failure that is not plain misuse of an argument carries one of these codes; messages may change between
 * versions, codes don't. Misuse throws TypeError or RangeError instead.
 */
export const ERROR_CODES = {
  SGEMOE_BACKEND_UNAVAILABLE: 'The backend asked for can not be loaded on this machine.',
  SGEMOE_CONFIG_INVALID: 'A configuration file is unreadable or asks for something the model does not do.',
  SGEMOE_CHECKPOINT_NOT_FOUND: 'The checkpoint folder or one of its files does not exist or can not be read.',
  SGEMOE_CHECKPOINT_TRUNCATED: 'A file ends before the data its header promises.',
  SGEMOE_CHECKPOINT_HEADER: 'The header of a safetensors or GGUF file is malformed or absurdly large.',
  SGEMOE_CHECKPOINT_OFFSETS: 'Tensor offsets overlap, leave holes or lie outside the file.',
  SGEMOE_CHECKPOINT_DTYPE: 'A tensor has a dtype that can not be read here.',
  SGEMOE_CHECKPOINT_SHAPE: 'A tensor has another shape than the model needs.',
  SGEMOE_CHECKPOINT_MISSING_TENSOR: 'The model needs a tensor that the file does not hold.',
  SGEMOE_CHECKPOINT_EXTRA_TENSOR: 'The file holds a tensor that the model does not know.',
  SGEMOE_CHECKPOINT_INDEX: 'The index of a sharded checkpoint is unreadable, or its files contradict it.',
  SGEMOE_CHECKPOINT_CHANGED: 'The file of a mapped model was changed or shortened while it was in use.',
  SGEMOE_CHECKPOINT_WRITE:
    'A checkpoint could not be written; what is in the folder, old or new, is whole and loads.',
  SGEMOE_TRAINING_STATE:
    'The state of a training is missing, damaged, or belongs to other weights than those beside it.',
  SGEMOE_TRAINING_SAVING: 'A train step was called while the training is being saved.',
  SGEMOE_TRAINING_DIVERGED: 'Too many steps in a row were skipped: the training has diverged.',
  SGEMOE_RUN_FOLDER: 'The folder for a new run holds an earlier one, or other things.',
  SGEMOE_FOLDER_LOCKED: 'Another process writes to the folder.',
  SGEMOE_TOKENIZER_INVALID: 'tokenizer.json is unreadable or describes a tokenizer that is not supported.',
  SGEMOE_UNKNOWN_CHARACTER: 'A text has a character for which a character tokenizer has no token.',
  SGEMOE_CHAT_TEMPLATE: 'There is no chat template, or it can not be rendered with these messages.',
  SGEMOE_DATA_ENCODING: 'A text file is in another encoding than UTF-8.',
  SGEMOE_DATA_NOT_FOUND: 'A data path does not exist or is unreadable.',
  SGEMOE_DATA_TOO_SHORT: 'The data has fewer tokens than one training window needs.',
  SGEMOE_MODEL_FROZEN: 'Something tried to write the parameters of a frozen model.',
  SGEMOE_MODEL_STORED:
    'Something tried to train, write or read a model that keeps its matrices as they are stored.',
  SGEMOE_DATA_INVALID: 'A prepared data set is damaged, or belongs to another tokenizer.',
  SGEMOE_DATA_ROWS: 'A file of samples is no JSON, or none of its rows can be learnt from.',
  SGEMOE_DATA_WRITE: 'A data set could not be written; what was there before is untouched.',
  SGEMOE_CONSTRAINT_INVALID:
    'A grammar, JSON Schema or regular expression can not be read, is not supported, or no text fulfils it.',
  SGEMOE_CONSTRAINT_LIMIT: 'A constraint is too large or too ambiguous to be followed in bounded time.',
  SGEMOE_CONSTRAINT_STUCK: 'No token of the vocabulary can follow a text within its constraint.',
  SGEMOE_CONTEXT_FULL: 'A sequence would get longer than the key-value cache has room for.',
  SGEMOE_HUB_NOT_FOUND: 'The hub, or offline the cache folder, has no such model, revision or file.',
  SGEMOE_HUB_FILES: 'A model of the hub has no file that can be read, or several of which one must be named.',
  SGEMOE_HUB_ACCESS: 'The hub refuses access: a gated or private model, or a token that it does not take.',
  SGEMOE_HUB_UNREACHABLE: 'The hub can not be reached, or answers with errors.',
  SGEMOE_HUB_DAMAGED: 'A file of the hub does not have the size or the checksum that the hub tells.',
  SGEMOE_HUB_WRITE: 'The cache folder of the hub can not be written, or has no room.',
  SGEMOE_TEXT_LIMIT: 'A text takes longer, or more memory, to be turned into tokens than an engine allows.',
  SGEMOE_ADAPTER_NOT_FOUND: 'A request or a call names an adapter that the engine does not have.',
  SGEMOE_QUEUE_FULL: 'An engine has as many waiting requests as it was opened for.',
  SGEMOE_ENGINE_CLOSED: 'An engine was closed before a request came, or before it was answered.',
  SGEMOE_SERVER: 'The server of `sgemoe chat --url` can not be reached, or answers with an error.',
  SGEMOE_TIMEOUT: 'A request was not answered within its time.',
  SGEMOE_WORKER_DIED: 'A worker thread ended before it had answered a request, or could not be started.',
  SGEMOE_MEMORY: 'Something would take more memory than this process can have.',
  SGEMOE_RANKS_MISMATCH:
    'The ranks of a run called different functions, or with sizes that contradict each other.',
  SGEMOE_RANKS_ABORTED: 'A rank of a run aborted it, or ended before the others.',
  SGEMOE_RANKS_TIMEOUT: 'A rank of a run waited for the others longer than the time limit.',
  SGEMOE_MPI_UNAVAILABLE: 'A launcher of MPI started this process, and no library of MPI can be used.',
  SGEMOE_MPI_MISMATCH:
    'The launcher of MPI and the library are of different kinds: each process would run alone.',
  SGEMOE_MPI_FAILED: 'A function of MPI has failed.',
  SGEMOE_NO_FORWARD: 'backward was called without a forward that kept its activations.',
} as const;

export type ErrorCode = keyof typeof ERROR_CODES;

/** The one error class of sgemoe. `code` is stable; `cause` keeps what was caught. */
export class SgemoeError extends Error {
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.name = 'SgemoeError';
    this.code = code;
  }
}
