// The near end's side of a bond: connections to the socket that ssh forwards, each a channel of its own. Refuses those
// that nobody at the far end greets; how many are left is the answer.

import { connect, type Socket } from 'node:net'

import { hearGreeting } from './member.js'

/** From the connection to the greeting: one round trip, behind what is already on its way. */
export const GREETING_TIMEOUT_MS = 5000

/**
 * Opens `count` connections to the local socket at `path`. When each is greeted or given up, as many of those that come out
 * in the session of `secret` prove that they belong to it as `wanted` says, which is told how long the first greeting took;
 * resolves with these, paused. Destroys all, and resolves with none, once `signal` is aborted. Never rejects.
 */
export async function connectMembers(
  path: string,
  secret: string,
  count: number,
  signal: AbortSignal,
  wanted: (greetedMs: number) => number = () => count,
): Promise<Socket[]> {
  const sockets = Array.from({ length: count }, () => connect({ path, allowHalfOpen: true }))
  const destroyAll = (): void => {
    for (const socket of sockets) socket.destroy()
  }
  // A refusal closes it, and that is the answer.
  for (const socket of sockets) socket.on('error', () => socket.destroy())
  signal.addEventListener('abort', destroyAll, { once: true })
  if (signal.aborted) destroyAll()
  const startMs = performance.now()
  let greetedMs = Infinity
  const greeted = await Promise.all(
    sockets.map(async (socket) => {
      const proof = await hearGreeting(socket, secret, GREETING_TIMEOUT_MS)
      if (proof === null) return []
      greetedMs = Math.min(greetedMs, performance.now() - startMs)
      return [{ socket, proof }]
    }),
  )
  signal.removeEventListener('abort', destroyAll)
  if (signal.aborted) return []
  const able = greeted.flat()
  const members = able.splice(0, able.length === 0 ? 0 : wanted(greetedMs))
  for (const { socket } of able) socket.destroy()
  for (const { socket, proof } of members) socket.write(proof)
  return members.map(({ socket }) => socket)
}
