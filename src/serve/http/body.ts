import type { IncomingHttpHeaders } from 'node:http';
import type { Readable } from 'node:stream';
import { parseBody } from './fields';
import { Problem } from './problem';

const JSON_TYPE = /^application\/json\s*(;|$)/i;
const CHARSET = /;\s*charset\s*=\s*"?([^\s";]*)/i;

/**
 * The JSON of a body; undefined without a body. @param maxBytes largest body, in bytes; a larger one is not kept.
 * @throws Problem 413 for a larger body, 415 for a compressed one or another type, 400 if it isn't a JSON object, 499 if the client leaves.
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
  const charset = CHARSET.exec(headers['content-type']!)?.[1] ?? 'utf-8';
  if (!/^utf-?8$/i.test(charset)) throw new Problem(415, 'The body must be UTF-8, as JSON is.');
  if (Number(length ?? 0) > maxBytes) throw tooLarge(maxBytes);
  return parseBody(await collect(stream, maxBytes));
}

function tooLarge(maxBytes: number): Problem {
  return new Problem(413, `The body must have at most ${maxBytes} bytes.`);
}

/** Collects a body by events: leaving an async iteration would destroy the connection, and with it the error's answer. */
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
    // 'close' reports a broken connection; without this listener the error would end the process.
    stream.on('error', () => undefined);
    stream.on('data', onData).on('end', onEnd).on('close', onClose);
  });
}
