// Text of others after JSON.parse: what may be taken apart by name. Refuses lists and null, which are objects to JavaScript.

/** True for what was written as `{...}`. */
export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
