import type { FixedPart, PrescribedCalls } from '../../base/prescribedCalls';
import { TOOL_CALL_FORMATS, TOOL_CALL_MARKS, type ToolCallFormatName } from './formats';
import { byteOfMark } from './marks';

/** A function that may be called, with the JSON Schema of its arguments. */
export interface CallableFunction {
  readonly name: string;
  readonly parameters: Readonly<Record<string, unknown>> | boolean;
}

const MARKS = new RegExp(`(${TOOL_CALL_MARKS.map((mark) => mark.replace(/[[\]|]/g, '\\$&')).join('|')})`);

/**
 * The form of an answer that calls one or more of these functions; null where it can't be prescribed.
 * @param several whether more than one call is wanted.
 */
export function prescribeCalls(
  format: ToolCallFormatName,
  functions: readonly CallableFunction[],
  several: boolean,
): PrescribedCalls | null {
  const { written } = TOOL_CALL_FORMATS[format];
  if (written === null) return null;
  const { open, name, quoted, end, between, close, several: mayBeSeveral } = written;
  return {
    open: partsOf(open),
    calls: functions.map((each) => ({
      before: partsOf(name[0] + (quoted ? JSON.stringify(each.name) : each.name) + name[1]),
      parameters: each.parameters,
      after: partsOf(end),
    })),
    between: partsOf(between),
    close: partsOf(close),
    several: several && mayBeSeveral,
  };
}

function partsOf(text: string): FixedPart[] {
  return text
    .split(MARKS)
    .filter((part) => part !== '')
    .map((part) => (MARKS.test(part) ? { text: part, byte: byteOfMark(part) } : part));
}
