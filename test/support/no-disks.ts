// For fake hosts of tests that are about something else: what a host does with disks and locks of its own, and does not here.

import type { Host } from '../../src/host/host.js'

type DiskOperations = Pick<Host, 'takeLock' | 'undoSteps' | 'undoBack' | 'dropUndo' | 'digest' | 'writeOut'>

export class NoDisks implements DiskOperations {
  takeLock(): Promise<never> {
    return refuse()
  }

  undoSteps(): Promise<never> {
    return refuse()
  }

  undoBack(): Promise<never> {
    return refuse()
  }

  dropUndo(): Promise<never> {
    return refuse()
  }

  digest(): Promise<never> {
    return refuse()
  }

  writeOut(): Promise<never> {
    return refuse()
  }
}

function refuse(): Promise<never> {
  return Promise.reject(new Error('this host has no disks of its own'))
}
