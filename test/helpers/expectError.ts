import { expect } from 'vitest';
import { type ErrorCode, SgemoeError } from '../../src/base/errors';

/** Runs `action` and asserts that it fails with a SgemoeError of this code and message; returns the error. */
export async function expectError(
  code: ErrorCode,
  message: RegExp,
  action: () => unknown,
): Promise<SgemoeError> {
  let caught: unknown;
  try {
    await action();
  } catch (error) {
    caught = error;
  }
  expect(caught).toBeInstanceOf(SgemoeError);
  const failure = caught as SgemoeError;
  expect(failure.code, failure.message).toBe(code);
  expect(failure.message).toMatch(message);
  return failure;
}
