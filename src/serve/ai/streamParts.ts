import type { LanguageModelV3StreamPart, LanguageModelV3ToolCall } from '@ai-sdk/provider';
import { joinCalls, type ToolCallDelta } from '../../text/toolCalls/parser';

const TEXT_ID = 'text';

/** Turns texts and pieces of calls into the AI SDK's parts: one block of text, and calls one after the other. */
export class StreamParts {
  #hasText = false;
  /** The calls so far, of which the last is open. */
  readonly #calls: ToolCallDelta[] = [];

  *text(delta: string): Generator<LanguageModelV3StreamPart> {
    if (delta === '') return;
    if (!this.#hasText) yield { type: 'text-start', id: TEXT_ID };
    this.#hasText = true;
    yield { type: 'text-delta', id: TEXT_ID, delta };
  }

  *calls(pieces: readonly ToolCallDelta[]): Generator<LanguageModelV3StreamPart> {
    for (const piece of pieces) {
      if (piece.index >= this.#calls.length) {
        yield* this.#endCall();
        yield { type: 'tool-input-start', id: piece.id!, toolName: piece.name! };
      }
      joinCalls(this.#calls, [piece]);
      const { id } = this.#calls[this.#calls.length - 1];
      if (piece.arguments !== '') yield { type: 'tool-input-delta', id: id!, delta: piece.arguments };
    }
  }

  /** Ends what is open. */
  *end(): Generator<LanguageModelV3StreamPart> {
    if (this.#hasText) yield { type: 'text-end', id: TEXT_ID };
    yield* this.#endCall();
  }

  *#endCall(): Generator<LanguageModelV3StreamPart> {
    const call = this.#calls.at(-1);
    if (call === undefined) return;
    yield { type: 'tool-input-end', id: call.id! };
    yield callPart(call);
  }
}

/** A call that is whole, or cut where the answer is. */
export function callPart({ id, name, arguments: input }: ToolCallDelta): LanguageModelV3ToolCall {
  return { type: 'tool-call', toolCallId: id!, toolName: name!, input };
}
