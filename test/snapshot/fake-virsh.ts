// A virsh that freezes and thaws nothing but a file, and notes when it was asked what, and by whom. It has a guest `web`,
// one without an agent (`bare`), and one whose freeze never ends (`stuck`).

import { readFileSync, writeFileSync } from 'node:fs'
import { mkdir, writeFile } from 'node:fs/promises'
import { delimiter, join } from 'node:path'

/** virsh 9.0 says the same of these, with its own numbers. */
const VIRSH = `#!/bin/sh
directory=\${0%/*}
note() { echo "$(date +%s%3N) $1 by $(cat /proc/$PPID/comm)" >>"$directory/log"; }
[ "$1" = --connect ] && { uri=$2; shift 2; }
note "\${uri:+$uri }$*"
[ "$2" = --domain ] || exit 9
case $1:$3 in
*:bare)
  echo "error: Unable to freeze filesystems" >&2
  echo "error: argument unsupported: QEMU guest agent is not configured" >&2
  exit 1 ;;
domfsfreeze:stuck) exec sleep 60 ;;
domfsfreeze:*) : >"$directory/frozen"; echo 'Froze 2 filesystem(s)' ;;
domfsthaw:*) if [ -e "$directory/frozen" ]; then rm "$directory/frozen"; echo 'Thawed 2 filesystem(s)'
  else echo 'Thawed 0 filesystem(s)'; fi ;;
esac
`

export type Noted = Readonly<{ atMs: number; what: string; by: string }>

export class FakeVirsh {
  readonly directory: string

  constructor(directory: string) {
    this.directory = directory
  }

  /** Makes it below `directory`; who has `path` as its PATH finds it. */
  static async make(directory: string): Promise<FakeVirsh> {
    await mkdir(directory)
    await writeFile(join(directory, 'virsh'), VIRSH, { mode: 0o755 })
    await writeFile(join(directory, 'log'), '')
    return new FakeVirsh(directory)
  }

  get path(): string {
    return `${this.directory}${delimiter}${process.env['PATH'] ?? ''}`
  }

  forget(): void {
    writeFileSync(join(this.directory, 'log'), '')
  }

  log(): readonly Noted[] {
    const lines = readFileSync(join(this.directory, 'log'), 'utf8').split('\n')
    return lines.flatMap((line) => {
      const [, at, what = '', by = ''] = /^(\d+) (.*) by (.*)$/.exec(line) ?? []
      return at === undefined ? [] : [{ atMs: Number(at), what, by }]
    })
  }

  /** 'freeze', 'thaw by node'... in their order. */
  asked(): readonly string[] {
    return this.log().map(({ what, by }) => `${/freeze/.test(what) ? 'freeze' : 'thaw'} by ${by}`)
  }
}
