'use strict';
/**
 * The code signature of a 64-bit Mach-O file, recomputed: macOS on arm64 kills a process that loads a library whose pages
 * don't have the hashes of its signature, as after a strip that doesn't sign again. Layout: cs_blobs.h of Apple's XNU.
 */
const { createHash } = require('node:crypto');

const MACH_O_64 = 0xfeedfacf;
const HEADER_BYTES = 32;
const LC_CODE_SIGNATURE = 0x1d;
const CODE_DIRECTORY = 0xfade0c02;
const AD_HOC = 0x2;
const SHA256 = 2;

/** What is wrong with it, or null. */
function signatureFault(file) {
  if (file.readUInt32LE(0) !== MACH_O_64) return 'no 64-bit Mach-O file';
  const command = signatureCommand(file);
  if (command === null) return 'not signed';
  const { offset, bytes } = command;
  if (offset + bytes !== file.length) return 'bytes after the signature';
  const at = codeDirectory(file, offset);
  if (at === null) return 'no code directory';
  return directoryFault(file, at, offset);
}

function signatureCommand(file) {
  let at = HEADER_BYTES;
  for (let left = file.readUInt32LE(16); left > 0; left--) {
    if (file.readUInt32LE(at) === LC_CODE_SIGNATURE) {
      return { offset: file.readUInt32LE(at + 8), bytes: file.readUInt32LE(at + 12) };
    }
    at += file.readUInt32LE(at + 4);
  }
  return null;
}

/** Where the first code directory of the signature at `offset` begins, or null. */
function codeDirectory(file, offset) {
  for (let i = 0; i < file.readUInt32BE(offset + 8); i++) {
    const at = offset + file.readUInt32BE(offset + 16 + 8 * i);
    if (file.readUInt32BE(at) === CODE_DIRECTORY) return at;
  }
  return null;
}

function directoryFault(file, at, signatureOffset) {
  const [hashes, pages, limit] = [16, 28, 32].map((field) => file.readUInt32BE(at + field));
  const [hashBytes, hashType, pageBits] = [36, 37, 39].map((field) => file[at + field]);
  if ((file.readUInt32BE(at + 12) & AD_HOC) === 0) return 'not an ad-hoc signature';
  if (hashType !== SHA256) return `hash type ${hashType}`;
  if (limit !== signatureOffset) return `${limit} bytes are signed, of ${signatureOffset}`;
  const pageBytes = 2 ** pageBits;
  if (pages !== Math.ceil(limit / pageBytes)) return `${pages} pages are signed`;
  for (let page = 0; page < pages; page++) {
    const content = file.subarray(page * pageBytes, Math.min(limit, (page + 1) * pageBytes));
    const signed = file.subarray(at + hashes + page * hashBytes).subarray(0, hashBytes);
    if (!createHash('sha256').update(content).digest().equals(signed)) return `page ${page} was changed`;
  }
  return null;
}

module.exports = { signatureFault };
