import type { IncomingHttpHeaders } from 'node:http';
import type { Readable } from 'node:stream';
import { parseBody } from './fields';
import { Problem } from './problem';

const JSON_TYPE = /^application\/json\s*(;|$)/i;

/**
 * The JSON of a body, undefined when there is none. @param maxBytes more are refused, and not kept.
 * @throws Problem 413, 415, or 400 for what is no JSON object; 499 when the client leaves before the end.
 */
export async function readJson(
  headers: IncomingHttpHeaders,
  stream: Readable,
  maxBytes: number,
): Promise<unknown> {
  if ((headers['content-encoding'] ?? 'identity') !== 'identity') {
    throw new Problem(415, 'The body must not be compressed.');
  }
  const length = headers['content-length'];
  if (headers['transfer-encoding'] === undefined && Number(length ?? 0) === 0) return undefined;
  if (!JSON_TYPE.test(headers['content-type'] ?? '')) {
    throw new Problem(415, 'The body must be JSON: the content-type must be application/json.');
  }
  if (Number(length ?? 0) > maxBytes) throw tooLarge(maxBytes);
  return parseBody(await collect(stream, maxBytes));
}

function tooLarge(maxBytes: number): Problem {
  return new Problem(413, `The body must have at most ${maxBytes} bytes.`);
}

/** By events: leaving an iteration would destroy the connection, and with it the answer that says why. */
function collect(stream: Readable, maxBytes: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const parts: Buffer[] = [];
    let bytes = 0;
    const settle = (end: () => void) => {
      stream.off('data', onData).off('end', onEnd).off('close', onClose);
      end();
    };
    const onData = (part: Buffer) => {
      parts.push(part);
      bytes += part.length;
      if (bytes <= maxBytes) return;
      settle(() => reject(tooLarge(maxBytes)));
      stream.resume();
    };
    const onEnd = () => settle(() => resolve(Buffer.concat(parts)));
    const onClose = () => settle(() => reject(new Problem(499, 'The client is gone.')));
    // A broken connection is told by 'close'; without a listener the error would end the process.
    stream.on('error', () => undefined);
    stream.on('data', onData).on('end', onEnd).on('close', onClose);
  });
}
