'use strict';
/**
 * Checks the contents of a prebuilt addon: libraries and symbols that it needs, and things that it must not contain. ELF files
 * are read by binutils, which come with any compiler, the others by llvm's tools.
 */
const { execFileSync } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');
const { nodeApiNames } = require('../../scripts/nodeApiStubs');
const { signatureFault } = require('./machoSignature');

const MOST_GLIBC = 17; // 2.17, of 2012
const LIBRARIES = {
  linux: /^(lib(c|m|dl|pthread)\.so(\.\d+)?|ld-linux.*\.so\.\d)$/,
  // The first is the file's own name.
  darwin: /^(@rpath\/sgemoe\.node|\/usr\/lib\/libSystem\.B\.dylib)$/,
  // KERNEL32 and the universal C runtime, which Windows 10 has.
  win32: /^(KERNEL32\.dll|ntdll\.dll|api-ms-win-(crt|core)-.*\.dll)$/i,
};
/** Absolute paths that the addons look for, or that a system's loader reads in them. */
const SYSTEM_PATHS = [
  /^\/(usr\/lib|lib|lib64|proc|sys|System)\//,
  /^\/(opt\/homebrew|usr\/local)\/opt\/openblas\//,
];
/** Shorter ones come about in machine code. */
const NO_ACCIDENT_CHARACTERS = 12;

const PLATFORMS = [
  ...['linux-x64', 'linux-arm64', 'linux-x64-musl', 'linux-arm64-musl'],
  ...['darwin-arm64', 'darwin-x64', 'win32-x64', 'win32-arm64'],
];

/** One step for each file in `folder`, the prebuilds. */
function binaryChecks(folder) {
  return PLATFORMS.map((platform) => ({
    name: `${platform}: file`,
    run: () => checkBinary(path.join(folder, platform, 'sgemoe.node'), platform),
  }));
}

function checkBinary(file, platform) {
  if (!fs.existsSync(file)) return [{ name: 'built', fault: `${file} is missing: npm run prebuild` }];
  const [system] = platform.split('-');
  const libraries = neededLibraries(file, system).filter((name) => !LIBRARIES[system].test(name));
  const checks = [
    { name: 'libraries', fault: libraries.join() || null },
    {
      name: 'debug information',
      fault: sections(file, system).match(/\.?_*debug_\w+/)?.[0] ?? null,
    },
    { name: 'paths of the machine that built it', fault: pathsIn(file) },
  ];
  if (system === 'darwin') checks.push({ name: 'undefined symbols', fault: strangeSymbols(file) });
  // Intel's Macs take unsigned libraries.
  if (platform === 'darwin-arm64') {
    checks.push({ name: 'signature', fault: signatureFault(fs.readFileSync(file)) });
  }
  if (system === 'linux' && !platform.endsWith('musl')) {
    checks.push({ name: 'glibc 2.17', fault: newerGlibc(file) });
  }
  return checks;
}

function sections(file, system) {
  return system === 'linux' ? tool('readelf', ['-SW', file]) : tool('llvm-objdump', ['-h', file]);
}

function neededLibraries(file, system) {
  if (system === 'darwin') {
    const lines = tool('llvm-objdump', ['--macho', '--dylibs-used', file]).split('\n').slice(1);
    return lines.map((line) => line.trim().split(' ')[0]).filter(Boolean);
  }
  const [command, args, pattern] =
    system === 'win32'
      ? ['llvm-objdump', ['-p', file], /DLL Name: (\S+)/g]
      : ['readelf', ['-dW', file], /\(NEEDED\).*\[(.*)\]/g];
  return [...tool(command, args).matchAll(pattern)].map(([, name]) => name);
}

/** Versions of glibc's, libstdc++'s or libgcc's symbols that a system with glibc 2.17 alone lacks. */
function newerGlibc(file) {
  const versions = tool('readelf', ['--version-info', '--wide', file]).matchAll(/\b(GLIBC\w*)_(\d+)\.(\d+)/g);
  const newer = [...versions].filter(
    ([, library, major, minor]) => library !== 'GLIBC' || Number(major) > 2 || Number(minor) > MOST_GLIBC,
  );
  return newer.map(([name]) => name).join() || null;
}

/** Symbols that neither libSystem nor Node-API has. */
function strangeSymbols(file) {
  const names = new Set(nodeApiNames());
  const lines = tool('llvm-nm', ['-m', '-u', file]).split('\n').filter(Boolean);
  const strange = lines.filter((line) => {
    const [, name, origin] = /external _?(\S+?)(?: \((.*)\))?$/.exec(line) ?? [];
    // Node-API is looked up in the running program.
    return origin !== 'from libSystem' && !(origin === undefined && names.has(name));
  });
  return strange.join('; ') || (lines.length === 0 ? 'llvm-nm tells none' : null);
}

/** Absolute paths are those of the machine that built it, unless a system has them; sources are named by nothing else. */
function pathsIn(file) {
  const text = fs.readFileSync(file, 'latin1');
  const absolute = text.match(/(?<![\w/.@])(?:\/[\w.+@-]{2,}){2,}/g) ?? [];
  const strange = absolute.filter(
    (found) => found.length >= NO_ACCIDENT_CHARACTERS && !SYSTEM_PATHS.some((pattern) => pattern.test(found)),
  );
  const sources = text.match(/[\w/.+-]+\.(?:cc|cpp)\b/g) ?? [];
  return [...strange, ...sources].slice(0, 5).join() || null;
}

function tool(command, args) {
  return execFileSync(command, args, { encoding: 'utf8', maxBuffer: 1 << 26 });
}

module.exports = { PLATFORMS, binaryChecks, checkBinary };
