// A process that listens where systemd would, and what it got.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { createInterface } from 'node:readline'

import { until } from '../support/processes.js'

const PROGRAM = join(import.meta.dirname, 'fixtures', 'receiver.py')

export type Receiver = AsyncDisposable & Readonly<{ texts: string[] }>

export async function receive(address: string): Promise<Receiver> {
  const child = spawn('python3', [PROGRAM, address], { stdio: ['ignore', 'pipe', 'inherit'] })
  const texts: string[] = []
  createInterface(child.stdout).on('line', (line) => texts.push(String(JSON.parse(line))))
  await until(() => texts.length > 0 || child.exitCode !== null, 'it listens')
  texts.shift()
  return {
    texts,
    [Symbol.asyncDispose]: async () => {
      const ended = once(child, 'close')
      child.kill('SIGKILL')
      await ended
    },
  }
}
