import { Automaton } from '../../../src/sampling/constraints/automaton';
import { compileConstraint } from '../../../src/sampling/constraints/compile';
import { type ConstraintOptions, constraintOf } from '../../../src/sampling/constraints/options';

/** Whether a text fulfils a constraint, as a function of the text. */
export function matcher(options: ConstraintOptions): (text: string) => boolean {
  const automaton = new Automaton(compileConstraint(constraintOf(options)!));
  return (text) => {
    automaton.begin();
    const state = automaton.read(automaton.start, Buffer.from(text, 'utf8'));
    return state !== null && automaton.accepts(state);
  };
}
