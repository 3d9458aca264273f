// A promise that is waited for only so long. Refuses nothing, and ends nothing: what it stands for goes on.

/** What `promise` resolves with, or null when `timeoutMs` have passed before. Rejects as it does. */
export async function within<T>(promise: Promise<T>, timeoutMs: number): Promise<T | null> {
  let timer: NodeJS.Timeout | undefined
  try {
    return await Promise.race([
      promise,
      new Promise<null>((resolve) => (timer = setTimeout(() => resolve(null), timeoutMs))),
    ])
  } finally {
    clearTimeout(timer)
  }
}
