import type { TokenVocabulary } from '../../sampling/constraints/constraint';
import type { ConstraintSource } from '../../sampling/constraints/options';
import type { Sampler } from '../../sampling/sampler';
import {
  joinCalls,
  type ParsedAnswer,
  type ToolCallDelta,
  ToolCallParser,
} from '../../text/toolCalls/parser';
import type { ToolWork } from './toolRequest';

/**
 * Follows an answer that may call functions. While arguments are written, it holds the sampler to them, so that calls that have
 * begun to go out end well.
 */
export class ToolAnswer {
  readonly #parser: ToolCallParser;
  /** Whether the sampler is held to the arguments of a call. */
  #holds = false;

  /**
   * @param held returns text that was chosen but isn't certain yet, since a stop text may have begun.
   * @throws SgemoeError as TokenVocabulary.tableOf for a schema that can't be followed.
   */
  constructor(
    private readonly work: ToolWork,
    private readonly sampler: Sampler,
    vocabulary: TokenVocabulary,
    private readonly held: () => string,
  ) {
    const { format, schemas, prescribed, parameters } = work;
    if (prescribed !== null) sampler.constrain({ kind: 'calls', text: JSON.stringify(prescribed) });
    else for (const schema of schemas.values()) vocabulary.tableOf(sourceOf(schema));
    const names = new Set(schemas.keys());
    const onArguments = (name: string, begun: string) => prescribed !== null || this.#hold(name, begun);
    this.#parser = new ToolCallParser({ format, names, parameters, onArguments });
  }

  /** Whether the answer ends here, since it has the one call that it may have. */
  get ended(): boolean {
    return this.work.single && this.work.prescribed === null && this.#parser.completed > 0;
  }

  /** Whether the answer has calls that are whole. */
  get called(): boolean {
    return this.#parser.completed > 0;
  }

  push(text: string): ParsedAnswer {
    return this.#parser.push(text);
  }

  flush(): ParsedAnswer {
    return this.#parser.flush();
  }

  /** Frees the sampler once arguments are whole. To be called after each token. */
  afterToken(): void {
    if (!this.#holds || !this.sampler.ended) return;
    this.sampler.constrain(null);
    this.#holds = false;
  }

  #hold(name: string, begun: string): boolean {
    const schema = this.work.schemas.get(name) ?? { type: 'object' };
    this.#holds = this.sampler.constrain(sourceOf(schema), Buffer.from(begun + this.held(), 'utf8'));
    return this.#holds;
  }
}

/** The constraints that an answer with tools may be held to. */
export function toolConstraints({ prescribed, schemas }: ToolWork): ConstraintSource[] {
  if (prescribed !== null) return [{ kind: 'calls', text: JSON.stringify(prescribed) }];
  return Array.from(schemas.values(), sourceOf);
}

function sourceOf(schema: object) {
  return { kind: 'jsonSchema', text: JSON.stringify(schema) } as const;
}

/** Adds what was parsed to a chunk. */
export function addParsed(chunk: { text: string; toolCalls: ToolCallDelta[] }, parsed: ParsedAnswer): void {
  chunk.text += parsed.text;
  joinCalls(chunk.toolCalls, parsed.calls);
}
