// The near end's side of a bond: a session that has one window gets several, without a further connection or far process.
// Where anything is missing for that, the session goes on as it is; nobody is told, since nothing is wrong.

import { connectMembers } from '../bond/connect.js'
import { newBondWord } from '../bond/member.js'
import { BondReceiver } from '../bond/receiver.js'
import { openBondOutput } from '../bond/sender.js'
import { decodeMembers } from '../wire/bonding.js'
import { encodeControl } from '../wire/control.js'
import { FRAME, protocolError } from '../wire/frame.js'
import { membersFor } from './bond-policy.js'
import type { Session } from './session.js'

const NOTHING = Buffer.alloc(0)

/**
 * Bonds the session where its round trip is long and its connection can: asks the far end to listen, opens streams to it
 * through ssh, and moves both directions over to all of them. `pinged` is how long a ping took that is on its way already,
 * `shortestMs` the shortest round trip that was seen. Resolves with how many streams there are then, 1 where it came to
 * nothing, null where it was not tried or not wanted. Rejects when the channel fails meanwhile. The run goes on all the time.
 */
export async function bondSession(
  session: Session,
  pinged: Promise<number>,
  shortestMs: () => number,
): Promise<number | null> {
  const { answers, channel, connection, far, ending } = session
  const { forward } = connection
  if (forward === null || !far.bonds || ending.aborted) return null
  const secret = newBondWord()
  // Right behind the ping that says whether it is wanted: a socket in vain costs less than a round trip of a long link.
  const asked = answers.ask(FRAME.bond, FRAME.bonding, encodeControl({ name: forward.name, secret }))
  const [answer, pingMs] = await Promise.all([asked, pinged])
  const most = Math.min(membersFor(pingMs), decodeMembers(answer).members)
  // The ping was one of two processes that had just begun. What the greeting and later pings took as well is the link's.
  const wanted = (greetedMs: number): number =>
    Math.min(most, membersFor(Math.min(shortestMs(), greetedMs))) - 1
  const sockets = most === 1 ? [] : await connectMembers(forward.localPath, secret, most - 1, ending, wanted)
  if (ending.aborted) return null
  const members = sockets.length + 1
  channel.post(FRAME.bonded, 0, encodeControl({ members }))
  if (members === 1) return membersFor(pingMs) === 1 ? null : 1
  const receiver = new BondReceiver((error) => channel.fail(error))
  for (const socket of sockets) receiver.add(socket, NOTHING)
  session.answers.when(FRAME.bonded, (body) => {
    if (decodeMembers(body).members !== members) throw protocolError('a bond of another number of streams')
    channel.receiveFrom((rest) => {
      receiver.add(connection.input, rest)
      return receiver.input
    })
  })
  channel.sendOver(openBondOutput([connection.output, ...sockets]))
  session.members = members
  // ssh ends when they are closed, and they have no other end when the far one is gone.
  connection.input.once('close', () => {
    for (const socket of sockets) socket.destroy()
  })
  return members
}
