// The command line once more, for `replicate` and `check`, in a piece that shares nothing with the others: what they need would
// otherwise break the engine into many small files, and each file costs every run half a millisecond.

export { runNear } from './near.js'
