// The shape of a configuration as JSON Schema, for editors: docs/replicate.schema.json is what this says. It refuses nothing
// that the reader takes; what only the reader can tell (times, operands, disks twice) is not in it.

import * as z from 'zod'

import type { ConfigParsers } from './parsers.js'
import { schemasOf } from './schema.js'

/** Draft 2020-12, of what is written (not of what becomes of it). */
export function jsonSchema(parsers: ConfigParsers): Record<string, unknown> {
  const { $schema, ...schema } = z.toJSONSchema(schemasOf(parsers).whole, { io: 'input' })
  return { $schema, title: 'Configuration of blocksync replicate', ...schema }
}
