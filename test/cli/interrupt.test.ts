import { EventEmitter } from 'node:events';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { Interrupt } from '../../src/cli/terminal/interrupt';

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

it('aborts at the first signal and leaves a second one, unless it is an echo, to the system', () => {
  const signals = new EventEmitter();
  const interrupt = new Interrupt(signals);
  expect(interrupt.aborted).toBe(false);
  signals.emit('SIGINT');
  expect(interrupt.signal.aborted).toBe(true);
  vi.advanceTimersByTime(499);
  expect(signals.listenerCount('SIGINT')).toBe(1);
  vi.advanceTimersByTime(1);
  // Without a listener the system ends the process.
  expect(signals.listenerCount('SIGINT')).toBe(0);
  expect(signals.listenerCount('SIGTERM')).toBe(0);
});

it('stops listening when released', () => {
  const signals = new EventEmitter();
  const interrupt = new Interrupt(signals);
  interrupt.release();
  signals.emit('SIGINT');
  expect(interrupt.aborted).toBe(false);
  expect(signals.eventNames()).toEqual([]);
});
