/**
 * Assigns pieces of text to tokens. Text may lag behind tokens, and a token may hold only a part of a character, so a
 * piece belongs to the last token that it needed.
 */
export class Aligner {
  constructor() {
    /** Tokens whose text hasn't arrived yet. @type {{ index: number, text: string }[]} */
    this.waiting = [];
    this.text = '';
    this.count = 0;
  }

  /**
   * Takes new tokens and text, and returns the pieces that are settled.
   * @param {{ text: string }[]} tokens
   * @param {string} text
   * @returns {{ text: string, token: number }[]}
   */
  add(tokens, text) {
    for (const token of tokens) this.waiting.push({ index: this.count++, text: token.text });
    this.text += text;
    const pieces = [];
    while (this.text !== '') {
      const found = this.firstFound();
      if (found === null) break;
      const { taken, before, end } = found;
      // These tokens are parts of a character, followed by the token after it.
      if (before > 0 && taken > 0)
        pieces.push({ text: this.text.slice(0, before), token: this.waiting[taken - 1].index });
      const from = taken > 0 ? before : 0;
      pieces.push({ text: this.text.slice(from, end), token: this.waiting[taken].index });
      this.waiting.splice(0, taken + 1);
      this.text = this.text.slice(end);
    }
    return pieces;
  }

  /** Returns the remaining pieces at the end. */
  flush() {
    const last = this.waiting.at(-1)?.index ?? this.count - 1;
    const pieces = this.text === '' ? [] : [{ text: this.text, token: last }];
    this.text = '';
    this.waiting = [];
    return pieces;
  }

  /** The first waiting token that is whole, and its place in the text; null if that isn't known yet. */
  firstFound() {
    const taken = this.waiting.findIndex(({ text }) => text !== '' && !text.includes('\ufffd'));
    if (taken < 0) return null;
    const { text } = this.waiting[taken];
    const before = this.text.indexOf(text);
    return before < 0 ? null : { taken, before, end: before + text.length };
  }
}
