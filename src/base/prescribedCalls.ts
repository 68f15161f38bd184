/** A text that an answer must have, or a mark: one token, for which `byte` stands, or the token's text. */
export type FixedPart = string | { readonly text: string; readonly byte: number };

type Schema = Readonly<Record<string, unknown>> | boolean;

/** A form of answers that call functions, as plain data: `open`, calls with `between` between them, `close`. */
export interface PrescribedCalls {
  readonly open: readonly FixedPart[];
  /** The calls that there may be: texts around arguments that are valid by a JSON Schema. */
  readonly calls: readonly {
    readonly before: readonly FixedPart[];
    readonly parameters: Schema;
    readonly after: readonly FixedPart[];
  }[];
  readonly between: readonly FixedPart[];
  readonly close: readonly FixedPart[];
  /** Whether there may be more than one call. */
  readonly several: boolean;
  /** A JSON Schema that the answer may follow instead of calling anything. */
  readonly otherwise?: Schema | undefined;
}
