// A program for quiesce.test.ts: freezes, says so, and never comes to an end.

import { LocalHost } from '../../src/host/local.js'
import { openSnapshots } from '../../src/snapshot/open.js'
import { cutQuiesced } from '../../src/snapshot/quiesce.js'

const [stateDir = ''] = process.argv.slice(2)
const host = new LocalHost({ stateDir, native: 'off' })
const hanging = {
  ...openSnapshots({ kind: 'reflink' }),
  cut: () => {
    console.log('cutting')
    return new Promise<never>(() => setInterval(() => undefined, 60_000))
  },
}
const request = { disks: ['/dev/null'], job: 'web', owner: '0123abcd', attempt: 'a1' }
await cutQuiesced(host, { kind: 'libvirt', domain: 'web', uri: null }, hanging, request)
