/** Checks the workflow that publishes, as far as its text shows. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { ROOT } from './project';

const workflow = readFileSync(join(ROOT, '.github', 'workflows', 'release.yml'), 'utf8');
const prebuild = readFileSync(join(ROOT, 'scripts', 'prebuild.js'), 'utf8');
/** The targets that are shipped. */
const shipped = /^const TARGETS = \{[\s\S]*?^\};/m.exec(prebuild)![0];
const built = [...shipped.matchAll(/^ {2}'([\w-]+)': \{ triple:/gm)].map(([, name]) => name);

describe('the loader', () => {
  it('requires the addon of every platform that is built, each in a way that bundlers see', () => {
    const loader = readFileSync(join(ROOT, 'src', 'backend', 'native.ts'), 'utf8');
    const required = [...loader.matchAll(/require\('\.\.\/\.\.\/prebuilds\/([\w-]+)\/sgemoe\.node'\)/g)];
    expect(required.map(([, name]) => name).sort()).toEqual(built.sort());
  });
});

describe('release.yml', () => {
  it('tests every platform that is built, on a machine of its own', () => {
    const tested = [...workflow.matchAll(/platform: ([\w-]+),/g)].map(([, name]) => name);
    expect(built.length).toBeGreaterThan(7);
    expect(tested.sort()).toEqual(built.sort());
  });

  it('pins every action by its commit', () => {
    const used = [...workflow.matchAll(/uses: (\S+)/g)].map(([, action]) => action);
    expect(used.length).toBeGreaterThan(4);
    for (const action of used) expect(action).toMatch(/^actions\/[\w-]+@[0-9a-f]{40}$/);
  });

  it('publishes the tested tarball with provenance, which needs a repository', () => {
    expect(workflow).toContain('npm publish sgemoe-*.tgz --provenance');
    expect(workflow.match(/id-token: write/g)).toHaveLength(1);
    const { repository } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));
    expect(repository.url).toMatch(/^git\+https:\/\/github\.com\/[\w-]+\/[\w-]+\.git$/);
  });
});
