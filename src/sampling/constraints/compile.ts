import type { PrescribedCalls } from '../../base/prescribedCalls';
import { readCalls } from './calls';
import { Expressions, tooLarge } from './expressions';
import { readGbnf } from './gbnf';
import { Grammar } from './grammar';
import type { ConstraintSource } from './options';
import { readRegex } from './regex';
import { readSchema } from './schema/schema';

/** Characters of a grammar, a pattern, or the JSON of a schema or of texts. */
const MOST_SOURCE = 2 ** 18;

/**
 * Compiles a constraint. @throws SgemoeError SGEMOE_CONSTRAINT_INVALID for one that can't be read, isn't supported or that no
 * text fulfils; SGEMOE_CONSTRAINT_LIMIT for one that is too large.
 */
export function compileConstraint({ kind, text }: ConstraintSource): Grammar {
  if (text.length > MOST_SOURCE) {
    throw tooLarge(`it has ${text.length} characters, at most ${MOST_SOURCE} are read`);
  }
  const make = new Expressions();
  const root = make.rule('root');
  if (kind === 'grammar') root.body = readGbnf(text, make);
  else if (kind === 'regex') root.body = readRegex(text, make);
  else if (kind === 'jsonSchema') root.body = readSchema(JSON.parse(text), make);
  else if (kind === 'calls') root.body = readCalls(JSON.parse(text) as PrescribedCalls, make);
  else root.body = make.choiceOf((JSON.parse(text) as string[]).map((each) => make.text(each)));
  return new Grammar(make, root);
}
