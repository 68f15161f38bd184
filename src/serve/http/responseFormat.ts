import type { JsonSchema } from '../../sampling/constraints/options';
import type { Fields } from './fields';
import { CHAT_FIELDS } from './requestFields';

const TYPES = ['text', 'json_object', 'json_schema'];

/** The schema of the answer that `response_format` asks for; undefined for any text. @throws Problem for another form. */
export function responseFormat(fields: Fields): { jsonSchema?: JsonSchema } {
  fields.read('response_format', CHAT_FIELDS.response_format);
  const format = fields.object('response_format');
  if (format === undefined) return {};
  const type = format.text('type');
  if (type === undefined || !TYPES.includes(type)) {
    return format.fail('type', TYPES.map((each) => `'${each}'`).join(' or '), type);
  }
  const described = format.object('json_schema');
  format.refuseOthers();
  if (type === 'text') return {};
  const own = fields.take('json_schema');
  if (own !== undefined) fields.fail('json_schema', "absent beside 'response_format'", own);
  if (type === 'json_object') return { jsonSchema: { type: 'object' } };
  if (described === undefined) return format.fail('json_schema', 'an object', undefined);
  described.text('name');
  described.text('description');
  // Every answer follows the schema, strict or not.
  described.boolean('strict');
  const schema = described.read('schema', CHAT_FIELDS.response_format);
  described.refuseOthers();
  return schema === undefined ? described.fail('schema', 'an object', schema) : { jsonSchema: schema };
}
