// Chooses how the disks of a job are cut: a choice of the configuration in, a method out. Refuses nothing: what a host cannot
// do it says when it is asked.

import { commandSnapshots, type SnapshotCommands } from './command.js'
import { thinSnapshots } from './lvm-thin.js'
import { thickSnapshots, type ThickSize } from './lvm.js'
import { noSnapshots } from './none.js'
import { reflinkSnapshots } from './reflink.js'
import type { SnapshotMethod } from './snapshot.js'

/** As the configuration has it (SnapshotChoice in config/config.ts). */
export type SnapshotSpec =
  | Readonly<{ kind: 'lvm'; size: ThickSize }>
  | Readonly<{ kind: 'lvm-thin' }>
  | Readonly<{ kind: 'reflink' }>
  | Readonly<{ kind: 'none' }>
  | (Readonly<{ kind: 'command' }> & SnapshotCommands)

export function openSnapshots(choice: SnapshotSpec): SnapshotMethod {
  switch (choice.kind) {
    case 'lvm':
      return thickSnapshots(choice.size)
    case 'lvm-thin':
      return thinSnapshots()
    case 'reflink':
      return reflinkSnapshots()
    case 'none':
      return noSnapshots()
    case 'command':
      return commandSnapshots(choice)
    default:
      return choice satisfies never
  }
}
