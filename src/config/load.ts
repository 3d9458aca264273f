// The configuration of this host, for whoever begins something with it: files in, a Config out. What reads YAML is loaded when
// there is something to read.

import type { Config } from './config.js'
import { configTexts } from './locate.js'
import type { ConfigParsers } from './parsers.js'

export type ConfigRequest = Readonly<{
  /** The first is the main file; null is /etc/blocksync/config.yaml, and conf.d/*.yaml beside it. */
  paths: readonly string[] | null
}>

/**
 * Rejects with config/missing where a file is not there, and with config/invalid for everything else that is wrong with
 * them: one error of all problems (configLines of problems.ts has a line for each).
 */
export async function loadConfig({ paths }: ConfigRequest, parsers: ConfigParsers): Promise<Config> {
  const texts = await configTexts(paths)
  const { readConfig } = await import('./read.js')
  return readConfig(texts, parsers)
}
