import { expect, test } from 'vitest';
import { Turns } from '../../src/serve/engine/turns';

/** Takes all, in order. */
function taken(turns: Turns<string>): string[] {
  const all: string[] = [];
  for (let next = turns.take(); next !== undefined; next = turns.take()) all.push(next);
  return all;
}

function filled(...things: string[]): Turns<string> {
  const turns = new Turns<string>();
  for (const thing of things) turns.add(thing[0], thing);
  return turns;
}

test('each client has its turn, and its own things keep their order', () => {
  const turns = filled('a1', 'a2', 'a3', 'b1', 'c1', 'b2');
  expect(turns.size).toBe(6);
  expect(taken(turns)).toEqual(['a1', 'b1', 'c1', 'a2', 'b2', 'a3']);
  expect(turns.size).toBe(0);
});

test('a client that comes again and again after it was served starves no other', () => {
  const turns = filled('a1', 'a2', 'a3', 'b1');
  const order: string[] = [];
  for (let i = 2; i < 5; i++) {
    for (const _ of 'ab') order.push(turns.take()!);
    turns.add('b', `b${i}`);
  }
  expect(order).toEqual(['a1', 'b1', 'a2', 'b2', 'a3', 'b3']);
});

test('what is deleted is not taken, and its client keeps its turn for its others alone', () => {
  const turns = filled('a1', 'b1', 'b2', 'c1');
  expect(turns.delete('a', 'a1')).toBe(true);
  expect(turns.delete('b', 'b1')).toBe(true);
  expect(turns.delete('b', 'b1')).toBe(false);
  expect(turns.delete('d', 'd1')).toBe(false);
  expect(turns.size).toBe(2);
  expect(taken(turns)).toEqual(['b2', 'c1']);
});

test('all can be taken at once', () => {
  const turns = filled('a1', 'b1', 'a2');
  expect(turns.clear().sort()).toEqual(['a1', 'a2', 'b1']);
  expect(turns.size).toBe(0);
  expect(turns.take()).toBeUndefined();
});
