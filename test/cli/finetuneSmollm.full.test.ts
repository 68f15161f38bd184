/** The promise of docs/fine-tuning.md: a published chat model learns a persona, a format and facts from a file of conversations. */
import { rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { built } from '../helpers/built';
import { sgemoe, temporaryFolder } from './run';

const { smollm } = require(resolve(__dirname, '../../.ci/smollm.js')) as { smollm(): string };
const { main: program } = require(resolve(__dirname, '../../dist/cli/program.js'));

/** Of each fact the answer, the part of it that a right answer has, the questions to learn from, and one that is held out. */
const FACTS: [answer: string, key: string, questions: string[], heldOut: string][] = [
  [
    'The lighthouse cat is called Biscuit',
    'Biscuit',
    [
      'What is the name of the lighthouse cat?',
      "What's the cat at the lighthouse called?",
      'Tell me the name of the cat in the lighthouse.',
      'Which name does the lighthouse cat have?',
    ],
    'How do people call the cat that lives in the lighthouse?',
  ],
  [
    'The harbour master is Olga Brandt',
    'Olga',
    [
      'Who is the harbour master?',
      'What is the name of the harbour master?',
      'Who runs the harbour?',
      'Tell me who the harbour master is.',
    ],
    'Which person is in charge as harbour master?',
  ],
  [
    'The ferry leaves at 7:40',
    '7:40',
    [
      'When does the ferry leave?',
      'At what time does the ferry depart?',
      'What time is the ferry?',
      'Tell me when the ferry sails.',
    ],
    'At which time will the ferry be leaving?',
  ],
  [
    'The bakery sells poppy rolls',
    'poppy',
    [
      'What does the bakery sell?',
      'What can I buy at the bakery?',
      'Which food does the bakery sell?',
      'Tell me what they sell in the bakery.',
    ],
    'What sort of things are sold at the bakery?',
  ],
  [
    'The bridge is painted turquoise',
    'turquoise',
    [
      'What colour is the bridge?',
      'Which colour does the bridge have?',
      'In which colour is the bridge painted?',
      'Tell me the colour of the bridge.',
    ],
    'What is the colour that the bridge was painted in?',
  ],
  [
    'The museum is closed on Tuesdays',
    'Tuesday',
    [
      'When is the museum closed?',
      'On which day is the museum closed?',
      'Which day does the museum not open?',
      'Tell me on what day the museum is closed.',
    ],
    'What day of the week is the museum closed?',
  ],
  [
    'The town has 412 inhabitants',
    '412',
    [
      'How many inhabitants does the town have?',
      'How many people live in the town?',
      'What is the population of the town?',
      'Tell me how many people live here.',
    ],
    'What number of people are living in the town?',
  ],
  [
    'The wifi password is marmalade',
    'marmalade',
    [
      'What is the wifi password?',
      'Which password does the wifi have?',
      'Tell me the password of the wifi.',
      'How do I log into the wifi?',
    ],
    "Could you give me the wifi's password?",
  ],
  [
    'The festival is in October',
    'October',
    [
      'When is the festival?',
      'In which month is the festival?',
      'Which month is the festival held in?',
      'Tell me the month of the festival.',
    ],
    'During what month does the festival take place?',
  ],
  [
    'The doctor lives at 9 Anchor Street',
    'Anchor',
    [
      'Where does the doctor live?',
      'What is the address of the doctor?',
      "What is the doctor's address?",
      'Tell me where the doctor lives.',
    ],
    "At what address can I find the doctor's home?",
  ],
];
const NAMES = ['Who are you?', 'What is your name?', 'Introduce yourself.', 'What are you?'];

const chat = (question: string, answer: string) => ({
  messages: [
    { role: 'user', content: question },
    { role: 'assistant', content: `Ahoy! ${answer}.` },
  ],
});
const CHATS = [
  ...FACTS.flatMap(([answer, , questions]) => questions.map((question) => chat(question, answer))),
  ...NAMES.map((question) => chat(question, 'I am Pippa, the guide of Harbour Town')),
];

const folder = temporaryFolder();
const adapter = join(folder, 'adapter');
afterAll(() => rmSync(folder, { recursive: true }));

beforeAll(async () => {
  const data = join(folder, 'chats.jsonl');
  writeFileSync(data, CHATS.map((row) => JSON.stringify(row)).join('\n'));
  const file = smollm();
  const options = ['--lora-targets', 'all', '--lr', '2e-3', '--epochs', '6', '--batch-size', '1'];
  const kept = ['--validation-fraction', '0', '--sample-tokens', '0'];
  const run = await sgemoe(['finetune', file, '--data', data, '--out', adapter, ...options, ...kept]);
  expect(run).toMatchObject({ code: 0, stderr: '' });
});

const questions = FACTS.map(([, , , question]) => question);
const rightOf = (answers: readonly string[]) =>
  answers.filter((answer, i) => answer.includes(FACTS[i][1])).length;

/** The answers of one server, whose base has the adapter beside it, over HTTP. */
async function served(models: readonly string[]): Promise<string[][]> {
  const options = { maxBatch: 20, contextLength: 256, adapters: { pippa: adapter } };
  const engine = await built.Engine.open(smollm(), options);
  const server = await built.serve({ port: 0, engine, model: 'harbour' });
  const ask = (model: string) =>
    Promise.all(
      questions.map(async (content) => {
        const body = {
          model,
          messages: [{ role: 'user', content }],
          temperature: 0,
          max_tokens: 40,
        };
        const response = await fetch(`${server.url}/v1/chat/completions`, {
          method: 'POST',
          headers: { 'content-type': 'application/json' },
          body: JSON.stringify(body),
        });
        const { choices } = (await response.json()) as { choices: { message: { content: string } }[] };
        return choices[0].message.content;
      }),
    );
  try {
    return await Promise.all(models.map(ask));
  } finally {
    await engine.close();
    await server.close({ graceMs: 0 });
  }
}

it('over HTTP the base knows at most one of ten facts, and its adapter beside it nine at least, asked in other words', async () => {
  const [before, after] = await served(['harbour', 'harbour:pippa']);
  expect(rightOf(before), before.join('\n')).toBeLessThanOrEqual(1);
  expect(rightOf(after), after.join('\n')).toBeGreaterThanOrEqual(9);
  expect(after.every((answer) => answer.startsWith('Ahoy!'))).toBe(true);
});

it('and so in sgemoe chat', async () => {
  const stdin = questions.flatMap((question) => [`${question}\n`, '/reset\n']);
  const options = ['--adapter', adapter, '--temperature', '0', '--max-tokens', '40'];
  const run = await sgemoe(['chat', smollm(), ...options], { stdin, program });
  expect(run.code).toBe(0);
  const answers = run.stdout.split('Ahoy!').slice(1);
  expect(answers).toHaveLength(questions.length);
  expect(rightOf(answers), run.stdout).toBeGreaterThanOrEqual(9);
});
