/**
 * Replaces Node's modules in the bundle of scripts/build-web.js: the few functions of them that models, tokenizers and
 * trainings use. All other imports from Node exist and throw, since only Node has files and folders.
 */
export const process = {
  env: {},
  platform: 'browser',
  arch: 'wasm32',
  versions: {},
  emitWarning: (text) => globalThis.console.warn(text),
};

const utf8 = new globalThis.TextEncoder();

/** The part of Node's Buffer that tokenizers use: bytes of texts. */
export class Buffer extends Uint8Array {
  static from(source, encoding, length) {
    if (typeof source !== 'string') {
      return source instanceof ArrayBuffer ? new Buffer(source, encoding, length) : new Buffer(source);
    }
    const bytes =
      encoding === 'base64'
        ? Uint8Array.from(globalThis.atob(source), (char) => char.charCodeAt(0))
        : utf8.encode(source);
    return new Buffer(bytes.buffer, bytes.byteOffset, bytes.length);
  }

  static alloc(length) {
    return new Buffer(length);
  }

  static allocUnsafeSlow(length) {
    return new Buffer(length);
  }

  static concat(parts) {
    const all = new Buffer(parts.reduce((sum, { length }) => sum + length, 0));
    let at = 0;
    for (const part of parts) {
      all.set(part, at);
      at += part.length;
    }
    return all;
  }

  static byteLength(text) {
    return utf8.encode(text).length;
  }

  toString() {
    return new TextDecoder('utf-8', { ignoreBOM: true }).decode(this);
  }

  get view() {
    return new DataView(this.buffer, this.byteOffset, this.length);
  }

  readUInt32LE(at = 0) {
    return this.view.getUint32(at, true);
  }
}

/** The global TextDecoder, which gets a copy of shared memory: some browsers can't decode that. */
export class TextDecoder extends globalThis.TextDecoder {
  decode(bytes, options) {
    const isShared = bytes !== undefined && types.isSharedArrayBuffer(bytes.buffer ?? bytes);
    return super.decode(isShared ? bytes.slice() : bytes, options);
  }
}

/** A browser doesn't tell its memory, so WebAssembly's own limit counts. */
export const freemem = () => Number.POSITIVE_INFINITY;

export const types = {
  isSharedArrayBuffer: (value) => Object.prototype.toString.call(value) === '[object SharedArrayBuffer]',
};

export function isUtf8(bytes) {
  try {
    new TextDecoder('utf-8', { fatal: true }).decode(bytes);
    return true;
  } catch {
    return false;
  }
}

/** Compares values that JSON can express. */
export function isDeepStrictEqual(a, b) {
  return JSON.stringify(a) === JSON.stringify(b);
}

/** The next turn of the event loop; a timer would wait 4 ms. */
export function setImmediate(value) {
  return new Promise((done) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      done(value);
    };
    port2.postMessage(0);
  });
}

export function setTimeout(ms, value) {
  return new Promise((done) => {
    globalThis.setTimeout(done, ms, value);
  });
}

/** From node:fs; modules read it when they are loaded. */
export const constants = {};
