// The documents as tests look at them: text of a file in; sections, tables, fenced blocks and links out.

import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

export const ROOT = join(import.meta.dirname, '..', '..')

/** Documents of the project, as paths from its root. */
export function documents(): string[] {
  const inDocs = readdirSync(join(ROOT, 'docs'), { recursive: true, encoding: 'utf8' })
  return [
    'README.md',
    'CHANGELOG.md',
    'CONTRIBUTING.md',
    ...inDocs.filter((path) => path.endsWith('.md')).map((path) => join('docs', path)),
  ]
}

export function readText(path: string): string {
  return readFileSync(join(ROOT, path), 'utf8')
}

/** The part under the heading whose words are `title`, down to the next heading of the same or a higher level. */
export function section(text: string, title: string): string {
  const lines = text.split('\n')
  const from = lines.findIndex((line) => line.replace(/^#+ /, '') === title && line.startsWith('#'))
  if (from < 0) throw new Error(`no section ${title}`)
  const level = /^#+/.exec(lines[from] ?? '')?.[0].length ?? 0
  const rest = lines.slice(from + 1)
  const length = rest.findIndex((line) => (/^(#+) /.exec(line)?.[1]?.length ?? Infinity) <= level)
  return rest.slice(0, length < 0 ? undefined : length).join('\n')
}

/** Rows of every table in `text`, as cells; heads and rulers are left out. */
export function tableRows(text: string): string[][] {
  const lines = text.split('\n')
  return lines
    .filter((line, index) => line.startsWith('| ') && !(lines[index + 1] ?? '').startsWith('|---'))
    .map((line) =>
      line
        .slice(1, line.lastIndexOf('|'))
        .split('|')
        .map((cell) => cell.trim()),
    )
}

/** What stands between backticks. */
export function codeSpans(text: string): string[] {
  return Array.from(text.matchAll(/`([^`\n]+)`/g), (match) => match[1] ?? '')
}

/** The insides of fenced blocks of a language ('' for none). */
export function fences(text: string, language: string): string[] {
  const blocks = text.matchAll(/^```(\w*)\n([\s\S]*?)^```$/gm)
  return Array.from(blocks)
    .filter((match) => match[1] === language)
    .map((match) => match[2] ?? '')
}

/** `text` without fenced blocks. */
export function prose(text: string): string {
  return text.replace(/^```[\s\S]*?^```$/gm, '')
}
