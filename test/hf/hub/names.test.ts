import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it, vi } from 'vitest';
import { inspectCheckpoint, MoETransformer, pull } from '../../../src';
import { modelPath } from '../../../src/hf/hub/modelPath';
import { pullFrom } from '../../../src/hf/hub/pull';
import { expectError } from '../../helpers/expectError';
import { COMMIT, cacheDir, hub, NAME, notes, options, useHub, whole } from '../../helpers/smallHub';
import { SMALL } from '../../helpers/smallModel';

useHub();

describe('access', () => {
  const TOKEN = 'hf_secret';

  it('the token goes to the hub and never to another host, nor into a message', async () => {
    hub.repositories.set(NAME, { commit: COMMIT, files: whole, token: TOKEN });
    await pull(NAME, { ...options, token: TOKEN });
    const sent = (server: string) =>
      hub.seen.filter((each) => each.server === server).map(({ headers }) => headers.authorization);
    expect(new Set(sent('hub'))).toEqual(new Set([`Bearer ${TOKEN}`]));
    expect(sent('cdn')).toEqual([undefined]);
    expect(notes.join()).not.toContain(TOKEN);
    const unsendable = pull(NAME, { ...options, token: 'hf_secret\nx' });
    await expect(unsendable).rejects.toThrow(/printable ASCII without spaces$/);
  });

  it('gated, private and missing models say what to do', async () => {
    hub.repositories.set(NAME, { commit: COMMIT, files: whole, token: TOKEN, gated: true });
    const terms = /maker\/small is gated: accept its terms at http.*\/maker\/small, and set HF_TOKEN/;
    await expectError('SGEMOE_HUB_ACCESS', terms, () => pull(NAME, options));
    const others = /gated.*with the account of your token/;
    await expectError('SGEMOE_HUB_ACCESS', others, () => pull(NAME, { ...options, token: 'hf_other' }));
    const missing =
      /no model maker\/smal, or it is private, which needs a token \(HF_TOKEN\); there is maker\/small/;
    await expectError('SGEMOE_HUB_NOT_FOUND', missing, () => pull('maker/smal', options));
    hub.fault = (_, response) => {
      response.writeHead(401, { 'x-error-message': 'Invalid credentials in Authorization header' });
      response.end();
      return true;
    };
    await expectError('SGEMOE_HUB_ACCESS', /refuses the token/, () =>
      pull(NAME, { ...options, token: 'hf_old' }),
    );
  });

  it('takes endpoint, token, cache folder and offline from the variables of huggingface_hub', async () => {
    hub.repositories.set(NAME, { commit: COMMIT, files: whole, token: TOKEN });
    const env = { HF_ENDPOINT: `${hub.endpoint}/`, HF_HOME: cacheDir };
    writeFileSync(join(cacheDir, 'token'), `${TOKEN}\n`);
    expect(await pullFrom(NAME, {}, env)).toBe(
      join(cacheDir, 'hub', 'models--maker--small', 'snapshots', COMMIT),
    );
    const other = join(cacheDir, 'other');
    const path = await pullFrom(NAME, {}, { ...env, HF_TOKEN: TOKEN, HF_HUB_CACHE: other });
    expect(path.startsWith(other)).toBe(true);
    expect(await pullFrom(NAME, {}, { HOME: cacheDir, HF_HUB_CACHE: '~/other', HF_HUB_OFFLINE: '1' })).toBe(
      path,
    );
    await expect(pullFrom(NAME, {}, { ...env, HF_ENDPOINT: 'ftp://x:secret@y' })).rejects.toThrow(
      /without user and password$/,
    );
    const anonymous = () => pullFrom(NAME, {}, { ...env, HF_HUB_DISABLE_IMPLICIT_TOKEN: '1' });
    await expectError('SGEMOE_HUB_NOT_FOUND', /needs a token/, anonymous);
  });

  it('offline makes no request and takes only what is whole', async () => {
    const offline = { ...options, offline: true };
    await expectError('SGEMOE_HUB_NOT_FOUND', /not whole, in .*offline/, () => pull(NAME, offline));
    const path = await pull(NAME, options);
    hub.reset();
    expect(await pull(NAME, offline)).toBe(path);
    rmSync(join(path, 'model.safetensors'));
    await expectError('SGEMOE_HUB_NOT_FOUND', /not whole/, () => pull(NAME, offline));
    expect(hub.seen).toEqual([]);
  });
});

describe('names in place of paths', () => {
  it('load and inspectCheckpoint take them, quietly', async () => {
    const warn = vi.spyOn(process, 'emitWarning');
    const { onNote: _, ...quiet } = options;
    const model = await MoETransformer.load(NAME, { hub: quiet });
    expect(model.config.hiddenDim).toBe(SMALL.hiddenDim);
    expect(
      (await inspectCheckpoint(`hf.co/${NAME}`, { hub: { ...quiet, offline: true } })).parameters.total,
    ).toBe(model.config.totalParams());
    expect(warn).not.toHaveBeenCalled();
    warn.mockRestore();
  });

  it('a folder or file here comes first, and so does the folder of the owner, unless the name begins with hf.co', async () => {
    const before = process.cwd();
    process.chdir(cacheDir);
    try {
      mkdirSync('maker');
      expect(await modelPath(NAME, options)).toBe(NAME);
      expect(hub.seen).toEqual([]);
      expect(await modelPath(`hf.co/${NAME}`, options)).toMatch(/c0ffee0+$/);
      mkdirSync(NAME);
      hub.reset();
      expect(await modelPath(NAME, options)).toBe(NAME);
      expect(hub.seen).toEqual([]);
    } finally {
      process.chdir(before);
    }
  });

  it.each([
    'model',
    './maker/small',
    '../maker/small',
    'maker/small/best',
    '/maker/small',
    'maker/model.gguf',
    'C:\\maker/small',
    'maker/sm all',
    'maker/-small',
    '',
  ])('%j is a path', async (path) => {
    expect(await modelPath(path, options)).toBe(path);
    expect(hub.seen).toEqual([]);
  });

  it('a name that nobody has is told with both places', async () => {
    const both = /no folder or file maker\/none here\. http.* has no model maker\/none/;
    await expectError('SGEMOE_HUB_NOT_FOUND', both, () =>
      MoETransformer.load('maker/none', { hub: options }),
    );
    await expect(pull('no name', options)).rejects.toThrow(/name must be org\/name/);
  });
});
