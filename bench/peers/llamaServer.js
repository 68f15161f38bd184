'use strict';
/**
 * Builds llama.cpp's server from the sources inside npm's node-llama-cpp, linked to the libraries that come with it, so that
 * both sides of a comparison run what people install. Its page and its models of images are left out.
 */
const { execFileSync } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');

const COMPILER = 'g++';
const OPTIONS = ['-std=c++17', '-O2', '-fPIC'];
const INCLUDES = ['tools/server', 'tools/mtmd', '.', 'include', 'common', 'ggml/include', 'vendor'];

/** What tools/server asks of the page's files. */
const PAGE = `#pragma once
#include <string>
#include <vector>
struct llama_ui_asset { std::string name; };
inline std::vector<llama_ui_asset> llama_ui_get_assets() { return {}; }
`;

/**
 * @param {string} llama a folder in which node-llama-cpp is installed
 * @param {string} out a folder for the sources and the program, which is kept for the next time
 * @returns {string} the program
 */
function buildLlamaServer(llama, out) {
  const program = path.join(out, 'llama-server');
  if (fs.existsSync(program)) return program;
  const source = path.join(out, 'source');
  const objects = path.join(out, 'objects');
  fs.mkdirSync(objects, { recursive: true });
  if (!fs.existsSync(source)) {
    const bundle = path.join(llama, 'node_modules/node-llama-cpp/llama/gitRelease.bundle');
    run('git', ['clone', '--quiet', path.resolve(bundle), source]);
  }
  fs.writeFileSync(path.join(objects, 'ui.h'), PAGE);
  const server = path.join(source, 'tools/server');
  const sources = fs.readdirSync(server).filter((name) => name.endsWith('.cpp'));
  const files = [
    ...sources.map((name) => path.join(server, name)),
    path.join(source, 'vendor/cpp-httplib/httplib.cpp'),
  ].map((file) => compile(file, source, objects));
  link(program, files, objects, librariesOf(llama));
  return program;
}

function compile(file, source, objects) {
  const object = path.join(objects, `${path.basename(file, '.cpp')}.o`);
  if (fs.existsSync(object)) return object;
  process.stderr.write(`compiling ${path.basename(file)}\n`);
  const includes = [objects, ...INCLUDES.map((folder) => path.join(source, folder))].map((dir) => `-I${dir}`);
  run(COMPILER, [...OPTIONS, ...includes, '-c', file, '-o', `${object}.part`]);
  fs.renameSync(`${object}.part`, object);
  return object;
}

/** Functions of models of images return nothing: without such a model, none of their results is used. */
function link(program, files, objects, libraries) {
  const undefinedNames = run('nm', ['-u', ...files]).matchAll(/\bU ((?:_Z\d+)?mtmd_\w+)$/gm);
  const names = new Set([...undefinedNames].map(([, name]) => name));
  const stubs = [...names].map((name) =>
    name.endsWith('_marker')
      ? `const char* ${name}(void) { return "<__media__>"; }`
      : `void* ${name}(void) { return 0; }`,
  );
  const stub = path.join(objects, 'images.c');
  fs.writeFileSync(stub, `${stubs.join('\n')}\n`);
  run('gcc', ['-fPIC', '-c', stub, '-o', `${stub}.o`]);
  const shared = fs
    .readdirSync(libraries)
    .filter((name) => /^lib(llama|ggml).*\.so$/.test(name) && !/cpu/.test(name));
  run(COMPILER, [
    ...files,
    `${stub}.o`,
    ...shared.map((name) => path.join(libraries, name)),
    `-Wl,-rpath,${libraries}`,
    '-pthread',
    '-o',
    program,
  ]);
}

/** The folder of this platform's libraries. */
function librariesOf(llama) {
  const name = `${process.platform}-${process.arch}`;
  return path.resolve(llama, `node_modules/@node-llama-cpp/${name}/bins/${name}`);
}

function run(program, options) {
  return execFileSync(program, options, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] });
}

module.exports = { buildLlamaServer, librariesOf };
