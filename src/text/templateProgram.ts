/** The package's own types name files without endings, which this module resolution doesn't find. */
interface Jinja {
  Template: new (source: string) => Template;
  Environment: new () => Environment;
  Interpreter: new (environment: Environment) => Interpreter;
}

interface Template {
  readonly parsed: unknown;
  render(variables: object): string;
}

interface Environment {
  set(name: string, value: unknown): unknown;
}

interface Interpreter {
  run(program: unknown): { value: unknown };
  evaluate(statement: unknown, environment: unknown): { value: unknown };
}

/** Characters of a template; those of models have at most some ten thousand. */
const MOST_SOURCE = 2 ** 19;
/** Numbers that `range` makes, as in the Python library's sandbox. */
const MOST_RANGE = 100_000;
/** Elements of a list. */
const MOST_ELEMENTS = 1_000_000;

/**
 * A chat template. It comes with a checkpoint, so it isn't trusted: texts, lists and ranges that it makes are bounded. Its time
 * isn't, which `withinTime` does.
 */
export class TemplateProgram {
  readonly #template: Template;

  /** @throws Error for a source that is too long or wrong. */
  constructor(source: string) {
    if (source.length > MOST_SOURCE) {
      throw new Error(`it has ${source.length} characters, and at most ${MOST_SOURCE} are read`);
    }
    this.#template = new (jinja().Template)(source);
  }

  /** @param most characters of the text and of each text on the way to it. @throws Error for more. */
  render(variables: Readonly<Record<string, unknown>>, most: number): string {
    const { Environment } = jinja();
    const environment = new Environment();
    for (const [name, value] of Object.entries({ ...GLOBALS, ...variables })) environment.set(name, value);
    return boundedInterpreter(environment, most).run(this.#template.parsed).value as string;
  }
}

/** The names that Jinja knows by itself. */
const GLOBALS: Readonly<Record<string, unknown>> = {
  true: true,
  false: false,
  none: null,
  True: true,
  False: false,
  None: null,
  raise_exception(message: string): never {
    throw new Error(message);
  },
  range: boundedRange,
  strftime_now: (format: string) => new (jinja().Template)('{{ strftime_now(format) }}').render({ format }),
};

function boundedRange(...bounds: number[]): number[] {
  const [start, stop, step = 1] = bounds.length === 1 ? [0, ...bounds] : bounds;
  if (step === 0) throw new Error('range() step must not be zero');
  const length = Math.max(0, Math.ceil((stop - start) / step)) || 0;
  if (length > MOST_RANGE)
    throw new Error(`range() has ${length} numbers, and at most ${MOST_RANGE} are made`);
  return Array.from({ length }, (_, i) => start + i * step);
}

/** An interpreter that looks at the size of each value. */
function boundedInterpreter(environment: Environment, most: number): Interpreter {
  const interpreter = new (jinja().Interpreter)(environment);
  const evaluate = interpreter.evaluate.bind(interpreter);
  interpreter.evaluate = (statement, inner) => {
    const result = evaluate(statement, inner);
    const { value } = result;
    if (typeof value === 'string') {
      if (value.length > most) throw new Error(`it makes a text of more than ${most} characters`);
    } else if (Array.isArray(value) && value.length > MOST_ELEMENTS) {
      throw new Error(`it makes a list of more than ${MOST_ELEMENTS} elements`);
    }
    return result;
  };
  return interpreter;
}

let loaded: Jinja | undefined;

/** Loads the package, which must not be stopped halfway. */
export function loadTemplateLanguage(): void {
  jinja();
}

function jinja(): Jinja {
  loaded ??= require('@huggingface/jinja') as Jinja; // a plain require, which bundlers see
  return loaded;
}
