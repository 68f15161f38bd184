/**
 * The built declarations in a project as strict as TypeScript has it, without skipLibCheck, as ESM and CommonJS, with nothing
 * beside them but Node's types; and options that are undefined, which stand for their defaults.
 */
import { execFileSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import ts from 'typescript';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ROOT } from './markdown';

const CONSUMER = `
import {
  createHandler, Engine, generate, type GenerateRequest, ModelConfig, type ModelConfigOptions, MoETransformer,
  RandomSampling, Sampler, type SamplingOptions, type ServeOptions, Tensor, type TrainConfig, Trainer, ByteTokenizer,
} from 'sgemoe';

interface Given { temperature?: number; seed?: number; signal?: AbortSignal; lr?: number; hiddenDim?: number; maxTokens?: number }

export async function main(given: Given = {}): Promise<string> {
  const sizes: Partial<ModelConfigOptions> = { vocabSize: 256 };
  const config = ModelConfig.tiny({ ...sizes, hiddenDim: given.hiddenDim, qkNorm: undefined }).with({ nLayers: undefined });
  const model = MoETransformer.create(config, { seed: given.seed });
  const lr = 1e-3;
  const train: TrainConfig = { lr };
  const trainer = new Trainer(model, { ...train, beta1: undefined, schedule: undefined, gradClip: undefined });
  const complete: number = trainer.config.lr + trainer.config.beta1;
  const ids = Tensor.fromIds([[1, 2, 3]]);
  trainer.trainStep(ids, ids);
  const sampling: SamplingOptions = { temperature: given.temperature, seed: given.seed, stop: undefined, topK: undefined };
  const sampler = new Sampler(sampling, { vocabSize: model.vocabSize, kernels: undefined });
  const tokens = generate(model, [1], 4, new RandomSampling({ temperature: given.temperature }), { slidingWindow: undefined });
  const engine = await Engine.create(model, new ByteTokenizer(), { maxBatch: given.maxTokens, workers: undefined });
  const request: GenerateRequest = { prompt: 'a', ...sampling, maxTokens: 2, signal: given.signal, timeoutMs: undefined };
  const { usage } = await engine.generate(request);
  const serving: ServeOptions = { engine, model: undefined, maxTokens: given.maxTokens, port: undefined };
  createHandler({ engine, timeoutMs: undefined, maxTokens: serving.maxTokens });
  await engine.close();
  return [complete, tokens.length, sampler.options.temperature, usage.completionTokens, config.hiddenDim, config.nLayers].join();
}
`;

let project: string;
beforeAll(() => {
  project = mkdtempSync(join(tmpdir(), 'sgemoe-types-'));
  // A copy, from which the other packages in this repository's node_modules can't be found.
  const installed = join(project, 'node_modules', 'sgemoe');
  mkdirSync(installed, { recursive: true });
  cpSync(join(ROOT, 'package.json'), join(installed, 'package.json'));
  cpSync(join(ROOT, 'dist'), join(installed, 'dist'), { recursive: true });
  mkdirSync(join(project, 'node_modules', '@types'));
  for (const name of ['@types/node', 'undici-types']) {
    symlinkSync(join(ROOT, 'node_modules', name), join(project, 'node_modules', name), 'junction');
  }
});
afterAll(() => rmSync(project, { recursive: true, force: true }));

function check(name: string, code: string): { program: ts.Program; errors: string[] } {
  const file = join(project, name);
  writeFileSync(file, code);
  const program = ts.createProgram([file], {
    target: ts.ScriptTarget.ES2022,
    module: ts.ModuleKind.NodeNext,
    moduleResolution: ts.ModuleResolutionKind.NodeNext,
    strict: true,
    exactOptionalPropertyTypes: true,
    noUncheckedIndexedAccess: true,
    skipLibCheck: false,
    noEmit: true,
    types: ['node'],
    typeRoots: [join(project, 'node_modules', '@types')],
  });
  const errors = ts.getPreEmitDiagnostics(program).map(({ messageText, file: at, start }) => {
    const line = at && start !== undefined ? at.getLineAndCharacterOfPosition(start).line + 1 : 0;
    return `${at && relative(project, at.fileName)}:${line} ${ts.flattenDiagnosticMessageText(messageText, ' ')}`;
  });
  return { program, errors };
}

describe('the types of the package', () => {
  it.each(['consumer.mts', 'consumer.cts'])(
    'hold under exactOptionalPropertyTypes and without skipLibCheck: %s',
    (name) => {
      expect(check(name, CONSUMER).errors).toEqual([]);
      const wrong = check(
        `wrong.${name}`,
        CONSUMER.replace('const train: TrainConfig = { lr }', "const train: TrainConfig = { lr: 'x' }"),
      );
      expect(wrong.errors).toEqual([expect.stringMatching(/'string' is not assignable to type 'number'/)]);
    },
  );

  it('let every optional field of an interface be undefined', () => {
    const { program } = check('consumer.mts', CONSUMER);
    const strict: string[] = [];
    let optional = 0;
    for (const source of program.getSourceFiles()) {
      if (!source.fileName.includes('node_modules/sgemoe/')) continue;
      const visit = (node: ts.Node): void => {
        if (ts.isPropertySignature(node) && node.questionToken && node.type) {
          optional++;
          const type = node.type.getText();
          if (!/\bundefined$/.test(type) && type !== 'unknown')
            strict.push(`${source.fileName}: ${node.getText()}`);
        }
        ts.forEachChild(node, visit);
      };
      visit(source);
    }
    expect(optional).toBeGreaterThan(100);
    expect(strict).toEqual([]);
  });

  it('tell the options of a configuration with their docstrings', () => {
    const { program } = check('hover.mts', CONSUMER);
    const checker = program.getTypeChecker();
    const source = program
      .getSourceFiles()
      .find(({ fileName }) => fileName.endsWith('sgemoe/dist/config/trainConfig.d.ts'))!;
    const config = source.statements.find(
      (node) => ts.isInterfaceDeclaration(node) && node.name.text === 'TrainConfig',
    )!;
    for (const property of checker.getTypeAtLocation(config).getProperties()) {
      expect(ts.displayPartsToString(property.getDocumentationComment(checker)), property.name).toMatch(
        /Default/,
      );
    }
  });
});

it('undefined is the default at run time', () => {
  const { outputText } = ts.transpileModule(CONSUMER, {
    compilerOptions: { target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.CommonJS },
  });
  const file = join(project, 'run.cjs');
  for (const name of ['build', 'prebuilds'].filter((each) => existsSync(join(ROOT, each)))) {
    symlinkSync(join(ROOT, name), join(project, 'node_modules', 'sgemoe', name), 'junction');
  }
  for (const name of ['@huggingface', 'commander']) {
    symlinkSync(join(ROOT, 'node_modules', name), join(project, 'node_modules', name), 'junction');
  }
  writeFileSync(file, `${outputText}\nmain().then(console.log);`);
  const printed = execFileSync(process.execPath, [file], { encoding: 'utf8' });
  expect(printed.trim()).toBe('0.901,4,1,2,64,2');
});
