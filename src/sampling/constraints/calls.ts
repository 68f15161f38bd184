import type { FixedPart, PrescribedCalls } from '../../base/prescribedCalls';
import type { Expression, Expressions } from './expressions';
import { readSchema } from './schema/schema';

/** Reads a prescribed form of calls. @throws SgemoeError as readSchema. */
export function readCalls(source: PrescribedCalls, make: Expressions): Expression {
  const { open, calls, between, close, several, otherwise } = source;
  const fixed = (parts: readonly FixedPart[]) =>
    parts.map((part) => {
      if (typeof part === 'string') return make.text(part);
      return make.choice(make.text(part.text), make.bytes([part.byte, part.byte]));
    });
  const call = make.choice(
    ...calls.map(({ before, parameters, after }) =>
      make.rule('call', make.sequence(...fixed(before), readSchema(parameters, make), ...fixed(after))),
    ),
  );
  const others = several
    ? make.repeat(make.sequence(...fixed(between), call), 0, Number.POSITIVE_INFINITY)
    : make.empty;
  const all = make.sequence(...fixed(open), call, others, ...fixed(close));
  return otherwise === undefined ? all : make.choice(all, readSchema(otherwise, make));
}
