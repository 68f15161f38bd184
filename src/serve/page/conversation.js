/** The conversation on the page: its turns, and what is asked of the server. */
import { element, find } from './dom.js';

/**
 * A turn and its place on the page.
 * @typedef {{ role: 'user' | 'assistant', text: string, calls: { name: string, arguments: string }[], body: HTMLElement, row: HTMLElement }} Turn
 */

export class Conversation {
  constructor() {
    /** @type {Turn[]} */
    this.turns = [];
    /** The turn that the message will replace; -1 for none. */
    this.edited = -1;
    this.list = find('turns', HTMLElement);
    this.message = find('message', HTMLTextAreaElement);
  }

  /** The last turn, if it is the user's, or the user's before it. */
  get canRetry() {
    return this.turns.length > 0;
  }

  /** The messages for the server. */
  get messages() {
    const system = find('system', HTMLTextAreaElement).value;
    const turns = this.turns.map(({ role, text, calls }) =>
      calls.length === 0
        ? { role, content: text }
        : {
            role,
            content: text,
            tool_calls: calls.map((call, i) => ({ id: `call_${i}`, type: 'function', function: call })),
          },
    );
    return system === '' ? turns : [{ role: 'system', content: system }, ...turns];
  }

  /** Takes the message as the user's next turn, in place of the one that is edited. */
  send() {
    if (this.edited >= 0) this.cut(this.edited);
    this.add('user', this.message.value);
    this.message.value = '';
    this.edit(-1);
  }

  /** Forgets the answer to the user's last turn. */
  retry() {
    const last = this.turns.findLastIndex(({ role }) => role === 'user');
    this.cut(last + 1);
    this.edit(-1);
  }

  /** Begins an answer. @param {string} [note] beside its role */
  answer(note = '') {
    // The tokens of earlier answers are no longer explained.
    for (const { body, text } of this.turns) body.textContent = text;
    return this.add('assistant', '', note);
  }

  /** Adds a piece of a call of a function. @param {Turn} turn @param {import('./api.js').CallDelta} delta */
  call(turn, delta) {
    turn.calls[delta.index] ??= { name: '', arguments: '' };
    const call = turn.calls[delta.index];
    call.name += delta.function?.name ?? '';
    call.arguments += delta.function?.arguments ?? '';
    let shown = turn.row.querySelectorAll('.call')[delta.index];
    if (shown === undefined) {
      shown = element('div', 'call');
      turn.row.append(shown);
    }
    shown.replaceChildren(
      element('span', 'note', 'calls '),
      element('code', '', call.name),
      element('pre', '', indented(call.arguments)),
    );
  }

  /** Ends an answer; one without anything in it goes. @param {Turn} turn */
  end(turn) {
    turn.text = turn.body.textContent ?? '';
    if (turn.text === '' && turn.calls.length === 0) this.cut(this.turns.indexOf(turn));
  }

  clear() {
    this.cut(0);
    this.edit(-1);
    this.message.focus();
  }

  /** Puts a turn of the user's into the message, which then replaces it. @param {number} index -1 for none */
  edit(index) {
    this.edited = index;
    for (const [i, { row }] of this.turns.entries()) row.classList.toggle('edited', index >= 0 && i >= index);
    find('editing', HTMLElement).hidden = index < 0;
    if (index < 0) return;
    this.message.value = this.turns[index].text;
    this.message.focus();
  }

  /** @param {'user' | 'assistant'} role @param {string} text @param {string} [note] */
  add(role, text, note = '') {
    const body = element('div', 'turn-text', text);
    const head = element('div', 'turn-head', element('strong', '', role === 'user' ? 'You' : 'Model'));
    if (note !== '') head.append(element('span', 'note', note));
    const row = element('li', `turn ${role}`, head, body);
    /** @type {Turn} */
    const turn = { role, text, calls: [], body, row };
    if (role === 'user') {
      const button = element('button', 'small', 'Edit');
      button.setAttribute('type', 'button');
      button.addEventListener('click', () => this.edit(this.turns.indexOf(turn)));
      head.append(button);
    }
    this.turns.push(turn);
    this.list.append(row);
    row.scrollIntoView({ block: 'nearest' });
    return turn;
  }

  /** Removes the turns from this one on. @param {number} index */
  cut(index) {
    for (const { row } of this.turns.splice(index)) row.remove();
  }
}

/** JSON with line breaks; a text that isn't whole yet stays as it is. @param {string} json */
function indented(json) {
  try {
    return JSON.stringify(JSON.parse(json), null, 2);
  } catch {
    return json;
  }
}
