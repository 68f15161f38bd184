/** Checks that a text is one XML element with nested, closed tags and quoted attributes; returns its tag names. */
export function elementNames(xml: string): string[] {
  const names: string[] = [];
  const open: string[] = [];
  let at = 0;
  for (const match of xml.matchAll(/<(\/?)([a-zA-Z]+)((?:\s+[a-zA-Z0-9:-]+="[^"<]*")*)\s*(\/?)>/g)) {
    checkText(xml.slice(at, match.index));
    at = match.index + match[0].length;
    const [, closing, name, , empty] = match;
    if (closing) {
      if (open.pop() !== name) throw new Error(`</${name}> closes nothing at ${match.index}`);
    } else {
      if (open.length === 0 && names.length > 0) throw new Error(`a second root <${name}>`);
      names.push(name);
      if (!empty) open.push(name);
    }
  }
  checkText(xml.slice(at));
  if (open.length > 0) throw new Error(`<${open.at(-1)}> is not closed`);
  return names;
}

function checkText(text: string): void {
  if (/[<>]|&(?!(?:amp|lt|gt|quot);)/.test(text)) throw new Error(`not well-formed: ${text.slice(0, 60)}`);
}
