// What this program is, as text: its version, and what of the native core is in use here. Opens nothing.

import type { NativeStatus } from '../native.js'
import { packageVersion } from '../version.js'

/** `yes (avx2)`, or `no` and why. */
export function nativeText(native: Pick<NativeStatus, 'loaded' | 'reason' | 'simd'>): string {
  return native.loaded ? `yes (${native.simd ?? 'unknown'})` : `no (${native.reason ?? 'not built'})`
}

/** The lines of --version. */
export function versionLines(native: NativeStatus): string[] {
  return [`blocksync ${packageVersion()}`, `Node ${process.version}`, `native core: ${nativeText(native)}`]
}
