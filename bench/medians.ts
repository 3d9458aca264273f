// Medians of samples: one number stands for all rounds, and no single slow round moves it. Of nothing it is null.

import type { Sample } from './measure.js'

/** The middle one of an odd number, the mean of the middle two of an even one; null of none. */
export function median(values: readonly number[]): number | null {
  const sorted = [...values].sort((a, b) => a - b)
  const upper = sorted[Math.floor(sorted.length / 2)]
  const lower = sorted[Math.ceil(sorted.length / 2) - 1]
  return upper === undefined || lower === undefined ? null : (upper + lower) / 2
}

/** The median of one property over the samples that have it. */
export function medianOf(
  samples: readonly Sample[],
  property: (sample: Sample) => number | null,
): number | null {
  return median(samples.map(property).filter((value) => value !== null))
}

/** Seconds of the processors of both ends. */
export function cpuSecondsOf({ nearCpuSeconds, farCpuSeconds }: Sample): number {
  return nearCpuSeconds + farCpuSeconds
}

/** Both directions together; null where nobody counted. */
export function wireBytesOf({ sentBytes, receivedBytes }: Sample): number | null {
  return sentBytes === null || receivedBytes === null ? null : sentBytes + receivedBytes
}

/** The more of both ends; null where neither was seen. */
export function peakOf({ near, far }: Sample, which: 'largestBytes' | 'summedBytes'): number | null {
  return near === null && far === null ? null : Math.max(near?.[which] ?? 0, far?.[which] ?? 0)
}
