// Bodies of the frames that begin a bond (docs/protocol.md, "Bond"): JSON objects, every field checked before anyone uses
// it. Refused are words that are not 128 bits in hex, and numbers of streams that no bond has.

import { MAX_MEMBERS } from '../bond/piece.js'
import { count, hex, parseObject } from './fields.js'
import { protocolError } from './frame.js'

/** Client to server: listen for further streams of this session at bondSocketPath(name). Both words are 32 hex digits. */
export type BondMessage = { name: string; secret: string }

/**
 * Server to client, in `bonding`: the most streams that there may be, the plain one included; 1 where it cannot listen.
 * Either side, in `bonded`: what follows comes in pieces over so many; 1, from the client only: the bond came to nothing.
 */
export type MembersMessage = { members: number }

/** The name and the secret of a bond have 128 bits. */
const BOND_WORD_BYTES = 16

export function decodeBond(body: Buffer): BondMessage {
  const fields = parseObject(body, 'bond')
  return { name: hex(fields, 'name', BOND_WORD_BYTES), secret: hex(fields, 'secret', BOND_WORD_BYTES) }
}

/** The body of `bonding` and of `bonded`: a number from 1 to MAX_MEMBERS. */
export function decodeMembers(body: Buffer): MembersMessage {
  const members = count(parseObject(body, 'bonded'), 'members')
  if (members < 1 || members > MAX_MEMBERS) throw protocolError(`a bond of ${members} streams`)
  return { members }
}
