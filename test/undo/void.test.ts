// A run without --undo over a disk whose journal was being removed when the process was killed: the rest of it goes too.

import { expect, it } from 'vitest'

import { undoDirectory } from '../../src/undo/journal.js'
import { listGroups } from '../../src/undo/groups.js'
import { voidUndo } from '../../src/undo/void.js'
import { attempt, diskOf, NAMES, placeOn } from './attempt.js'
import { Machine, randomFrom } from './power.js'

it('old content of a journal that is given up does not stay for ever', async () => {
  const machine = Machine.withDisk(Buffer.alloc(4096, 7), randomFrom(1))
  await attempt(machine, {
    frames: [[{ kind: 'data', offset: 512, bytes: Buffer.alloc(1024, 8) }]],
    end: 'finished',
  })
  const files = machine.files()
  const directory = undoDirectory('/state', NAMES)
  const [group] = await listGroups(files, directory)
  const own = group?.directory ?? ''
  // the first step of a removal, and no further one
  await files.rename(own, own.replace(/\/([^/]+)$/, '/removed-$1'))
  expect(machine.paths.some((path) => path.endsWith('.undo'))).toBe(true)
  expect(await voidUndo(diskOf(machine), placeOn(machine))).toBe(null)
  expect(machine.paths.filter((path) => path.startsWith(`${directory}/`))).toEqual([])
})
