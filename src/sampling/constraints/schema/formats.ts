/** Formats of strings as regular expressions. Each allows a part of what the standards do: every text of it is valid. */

const DIGITS = (range: string) => `(?:${range})`;
const YEAR = '[0-9]{4}';
// Years with a February 29: divisible by 4, centuries by 400.
const LEAP_YEAR = '(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)';
const DAY_OF_MONTH = [
  '(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])',
  '(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)',
  '02-(?:0[1-9]|1[0-9]|2[0-8])',
].join('|');
const DATE = `(?:${YEAR}-(?:${DAY_OF_MONTH})|${LEAP_YEAR}-02-29)`;
const HOUR = '(?:[01][0-9]|2[0-3])';
const MINUTE = '[0-5][0-9]';
const TIME = `${HOUR}:${MINUTE}:${MINUTE}(?:\\.[0-9]{1,9})?(?:Z|[+-]${HOUR}:${MINUTE})`;
const OCTET = DIGITS('25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9]');
const IPV4 = `(?:${OCTET}\\.){3}${OCTET}`;
const GROUP = '[0-9a-fA-F]{1,4}';
// A name of up to 5 labels of up to 48 characters stays below the limits of 253 and 63.
const LABEL = '[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,46}[a-zA-Z0-9])?';
const HOSTNAME = `${LABEL}(?:\\.${LABEL}){0,4}`;
const ATOM = "[a-zA-Z0-9!#$%&'*+/=?^_`{|}~-]{1,48}";
const PATH = "(?:[a-zA-Z0-9._~!$&'()*+,;=:@-]|%[0-9A-F]{2})*";

/** All ways to leave out groups of zeros, or none. */
function ipv6(): string {
  const forms = [`(?:${GROUP}:){7}${GROUP}`];
  for (let before = 0; before <= 7; before++) {
    const most = 7 - before;
    const left = before === 0 ? ':' : `(?:${GROUP}:){${before}}`;
    forms.push(most === 0 ? `${left}:` : `${left}(?::|(?::${GROUP}){1,${most}})`);
  }
  return forms.join('|');
}

const DURATION_TIME =
  'T(?:[0-9]{1,6}H(?:[0-9]{1,6}M(?:[0-9]{1,6}S)?)?|[0-9]{1,6}M(?:[0-9]{1,6}S)?|[0-9]{1,6}S)';
const DURATION_DATE =
  '(?:[0-9]{1,6}Y(?:[0-9]{1,6}M(?:[0-9]{1,6}D)?)?|[0-9]{1,6}M(?:[0-9]{1,6}D)?|[0-9]{1,6}D)';

export const FORMATS: Readonly<Record<string, string>> = {
  date: `^${DATE}$`,
  time: `^${TIME}$`,
  'date-time': `^${DATE}T${TIME}$`,
  duration: `^P(?:${DURATION_DATE}(?:${DURATION_TIME})?|${DURATION_TIME}|[0-9]{1,6}W)$`,
  uuid: '^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$',
  email: `^${ATOM}(?:\\.${ATOM}){0,3}@${LABEL}(?:\\.${LABEL}){1,4}$`,
  hostname: `^${HOSTNAME}$`,
  ipv4: `^${IPV4}$`,
  ipv6: `^(?:${ipv6()})$`,
  uri: `^[a-zA-Z][a-zA-Z0-9+.-]{0,31}://${HOSTNAME}(?::[0-9]{1,5})?(?:/${PATH})*(?:\\?${PATH})?(?:#${PATH})?$`,
};
