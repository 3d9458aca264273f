// What a layer is, for those who list some. Nothing is measured here.

import { GIB } from './images.js'

/** One layer: bytes a second of each round. */
export type LayerSeries = { name: string; bytesPerSecond: number[] }

/** `prepare` comes before each turn and is not measured. */
export type Layer = Readonly<{
  name: string
  bytes: number
  prepare: () => Promise<void>
  run: () => Promise<void>
}>

/** What one turn moves: long enough to be measured, and in the page cache of any machine. */
export const LAYER_BYTES = GIB
