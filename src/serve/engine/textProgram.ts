import { setPriority } from 'node:os';
import type { MessagePort } from 'node:worker_threads';
import { loadTokenizer } from '../../text/loadTokenizer';
import { type FromTextThread, type TextSetup, type TextTask, toWire } from './messages';
import { readTexts } from './readTexts';

/** Nice value of the thread: while cores are short, a decoding thread gets about three times as much. */
const NICE = 5;

/** Answers one task after the other, each with one message. */
export function runTextThread(port: MessagePort, { tokenizer: files, limits }: TextSetup): void {
  // Only Linux has priorities of threads; elsewhere it would be the process's.
  if (process.platform === 'linux') setPriority(NICE);
  const tokenizer = files && loadTokenizer(files.tokenizer, files);
  const post = (message: FromTextThread) => port.postMessage(message);
  port.on('message', (task: TextTask) => {
    try {
      post({ ready: false, result: readTexts(task, tokenizer, limits) });
    } catch (error) {
      post({ ready: false, error: toWire(error) });
    }
  });
  post({ ready: true });
}
