import type { Sample } from '../../text/chats/samples';
import type { Tokenizer } from '../../text/tokenizer';

/** Tokens of an example that are shown. */
const MOST_TOKENS = 200;

/** A sample's text, what is learnt of it between brackets, so that nobody trains on the wrong tokens unseen. */
export function describeExample({ ids, counts, place }: Sample, tokenizer: Tokenizer): string {
  let text = '';
  for (let from = 0; from < Math.min(ids.length, MOST_TOKENS); ) {
    let to = from + 1;
    while (to < ids.length && counts[to] === counts[from]) to++;
    const part = printable(tokenizer.decode(ids.subarray(from, Math.min(to, MOST_TOKENS))));
    text += counts[from] === 1 ? `⟦${part}⟧` : part;
    from = to;
  }
  const rest = ids.length > MOST_TOKENS ? ` ... (${ids.length - MOST_TOKENS} tokens more)` : '';
  const learnt = counts.reduce((sum, counted) => sum + counted, 0);
  return `${place}: ${learnt} of ${ids.length} tokens are learnt, those in ⟦ ⟧:\n${indented(text + rest)}`;
}

function indented(text: string): string {
  return text.trimEnd().replace(/^/gm, '  | ');
}

/** Without characters that would act on the terminal. */
function printable(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for.
  return text.replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g, '\uFFFD');
}
