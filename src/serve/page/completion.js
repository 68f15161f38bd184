/** One completion on the page: its text, its figures, its strip. */
import { Aligner } from './align.js';
import { detailsOf, sentenceOf } from './details.js';
import { counted, duration, element, find } from './dom.js';
import { Strip } from './strip.js';

/** @typedef {import('./api.js').Token} Token */
/** @typedef {import('./api.js').Chunk} Chunk */

/** @type {Record<string, string>} */
const FINISHES = {
  stop: 'ended by itself or at a stop text',
  length: 'reached the limit of tokens',
  tool_calls: 'asks for calls',
};

/** Milliseconds between updates of the page: chunks arrive faster than thousands of tokens can be laid out. */
const INTERVAL = 80;

export class Completion {
  /** Replaces the completion on the page. @param {HTMLElement} written receives its text @param {number} experts of a layer */
  constructor(written, experts) {
    this.experts = experts;
    this.started = performance.now();
    /** The time and the number of the first tokens, followed by the time of the last. */
    this.first = { at: 0, tokens: 0 };
    this.last = 0;
    /** @type {Token[]} */
    this.tokens = [];
    this.aligner = new Aligner();
    /** Text whose token isn't known yet. */
    this.tail = document.createTextNode('');
    /** Why it ended, and the tokens of its prompt, in words. */
    this.finish = '';
    this.usage = '';
    /** @type {Strip | null} */
    this.strip = null;
    /** Tokens and text that have arrived but aren't shown yet. */
    this.fresh = { tokens: /** @type {Token[]} */ ([]), text: '' };
    /** The time of the last update, and the timer of the next. */
    this.shown = 0;
    this.timer = 0;
    this.written = written;
    this.written.replaceChildren(this.tail);
    find('experts', HTMLElement).hidden = true;
    this.show();
  }

  /** @param {Chunk} chunk */
  take({ choices, usage }) {
    if (usage) {
      const cached = usage.prompt_tokens_details?.cached_tokens ?? 0;
      const known = cached > 0 ? ` (${cached} of them cached)` : '';
      this.usage = `${counted(usage.prompt_tokens, 'prompt token')}${known}`;
    }
    for (const { text, finish_reason, sgemoe } of choices) {
      const tokens = sgemoe?.tokens ?? [];
      if (tokens.length > 0) this.count(tokens);
      this.fresh.tokens.push(...tokens);
      this.fresh.text += text;
      if (finish_reason !== null) this.finish = FINISHES[finish_reason] ?? finish_reason;
    }
    const wait = this.shown + INTERVAL - performance.now();
    this.timer ||= setTimeout(() => this.show(), Math.max(0, wait));
  }

  end() {
    clearTimeout(this.timer);
    this.show();
    this.write(this.aligner.flush());
  }

  /** @param {Token[]} tokens */
  count(tokens) {
    this.last = performance.now();
    if (this.tokens.length === 0) this.first = { at: this.last, tokens: tokens.length };
    this.tokens.push(...tokens);
  }

  makeStrip() {
    const describe = (/** @type {number} */ index) => sentenceOf(this.tokens[index]);
    // A dense layer has no experts; of a model with dense layers alone the strip only names the tokens.
    const layers = this.tokens[0].experts.flatMap(({ length }, layer) => (length > 0 ? [layer] : []));
    const shape = { layers, experts: this.experts, describe };
    const made = new Strip(shape, (index) => {
      this.showDetails(index);
      this.mark(index);
    });
    find('strip', HTMLElement).replaceChildren(made.element);
    const section = find('experts', HTMLElement);
    for (const explanation of section.querySelectorAll(':scope > p')) {
      /** @type {HTMLElement} */ (explanation).hidden = layers.length === 0;
    }
    find('experts-title', HTMLElement).textContent = layers.length > 0 ? 'Experts' : 'Tokens';
    section.hidden = false;
    return made;
  }

  /** @param {{ text: string, token: number }[]} pieces */
  write(pieces) {
    for (const { text, token } of pieces) {
      const piece = element('span', 'piece', text);
      piece.dataset.token = String(token);
      this.tail.before(piece);
    }
    this.tail.data = this.aligner.text;
  }

  /** Shows all that has arrived, and the newest token's details unless the reader looks at another token. */
  show() {
    this.timer = 0;
    this.shown = performance.now();
    const { tokens, text } = this.fresh;
    this.fresh = { tokens: [], text: '' };
    this.write(this.aligner.add(tokens, text));
    if (tokens.length > 0) {
      this.strip ??= this.makeStrip();
      this.strip.add(tokens);
    }
    find('figures', HTMLElement).textContent = this.figures();
    if (this.strip === null || this.strip.chosen >= 0) return;
    this.strip.follow();
    this.showDetails(this.tokens.length - 1);
  }

  figures() {
    const { tokens, first, last } = this;
    const parts = [];
    if (tokens.length > 0) {
      parts.push(counted(tokens.length, 'token'));
      const rate = (tokens.length - first.tokens) / ((last - first.at) / 1000);
      if (rate > 0 && Number.isFinite(rate)) parts.push(`${rate.toFixed(1)} tokens/s`);
      parts.push(`first token after ${duration(first.at - this.started)}`);
    }
    return [...parts, this.usage, this.finish].filter((part) => part !== '').join(' · ');
  }

  /** @param {number} index */
  showDetails(index) {
    find('details', HTMLElement).replaceChildren(detailsOf(this.tokens[index], index));
  }

  /** Marks a token in the text. @param {number} index */
  mark(index) {
    this.written.querySelector('.here')?.classList.remove('here');
    this.written.querySelector(`[data-token="${index}"]`)?.classList.add('here');
  }
}
