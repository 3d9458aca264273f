// The far end's side of a bond: listens when it is asked to, takes in the streams that prove to be of this session, and
// moves each direction over when it is agreed. Refuses to be asked twice, and streams beyond those agreed on.

import type { Socket } from 'node:net'
import type { Readable, Writable } from 'node:stream'

import { removeLeftOver } from '../bond/left-over.js'
import { BondListener, PROOF_TIMEOUT_MS } from '../bond/listen.js'
import { MAX_MEMBERS } from '../bond/piece.js'
import { BondReceiver } from '../bond/receiver.js'
import { openBondOutput } from '../bond/sender.js'
import { SyncError, toSyncError } from '../errors.js'
import { decodeBond, decodeMembers } from '../wire/bonding.js'
import type { Channel } from '../wire/channel.js'
import { encodeControl } from '../wire/control.js'
import { FRAME, protocolError } from '../wire/frame.js'

const NOTHING = Buffer.alloc(0)

export class FarBond {
  readonly #channel: Channel
  readonly #input: Readable
  readonly #output: Writable
  readonly #receiver: BondReceiver
  readonly #sockets: Socket[] = []
  #listener: BondListener | null = null
  /** Streams beside the plain one that the client said there are. */
  #agreed: number | null = null
  #timer: NodeJS.Timeout | null = null
  #isClosed = false

  /**
   * Takes the frames `bond` and `bonded` of `channel`; the others stay with whom they went to (Channel.onAside). `input` and
   * `output` are the plain streams that it began with.
   */
  constructor(channel: Channel, input: Readable, output: Writable) {
    this.#channel = channel
    this.#input = input
    this.#output = output
    this.#receiver = new BondReceiver((error) => channel.fail(error))
    const { onAside } = channel
    channel.onAside = (frame) => {
      if (frame.type === FRAME.bond) this.#listen(frame.body)
      else if (frame.type === FRAME.bonded) this.#moveInput(decodeMembers(frame.body).members - 1)
      else onAside?.(frame)
    }
  }

  /** Nobody comes in any more. What is bonded stays so. */
  close(): void {
    this.#isClosed = true
    this.#stopListening()
  }

  /** Ends the streams beside the plain one: ssh waits for them. */
  destroy(): void {
    this.close()
    for (const socket of this.#sockets) socket.destroy()
  }

  #listen(body: Buffer): void {
    if (this.#listener !== null) throw protocolError('a second bond')
    const listener = new BondListener(decodeBond(body), (socket) => this.#admit(socket))
    this.#listener = listener
    listener
      .listen()
      .then((isListening) => {
        this.#channel.post(FRAME.bonding, 0, encodeControl({ members: isListening ? MAX_MEMBERS : 1 }))
      })
      .catch((error: unknown) => this.#channel.fail(toSyncError(error)))
  }

  #admit(socket: Socket): void {
    if (this.#sockets.length + 1 === MAX_MEMBERS) return void socket.destroy()
    this.#sockets.push(socket)
    this.#receiver.add(socket, NOTHING)
    this.#moveOutput()
  }

  #moveInput(agreed: number): void {
    if (this.#listener === null || this.#agreed !== null) throw protocolError('bonded frame out of turn')
    this.#agreed = agreed
    if (agreed === 0) return this.#stopListening()
    removeLeftOver(Date.now()).catch((error: unknown) => this.#channel.fail(toSyncError(error)))
    this.#channel.receiveFrom((rest) => {
      this.#receiver.add(this.#input, rest)
      return this.#receiver.input
    })
    // Their proofs were sent before this frame, but each came another way.
    this.#timer = setTimeout(() => {
      this.#channel.fail(new SyncError('session/lost', 'streams of the bond did not arrive', { hint: AGAIN }))
    }, PROOF_TIMEOUT_MS)
    this.#moveOutput()
  }

  #moveOutput(): void {
    if (this.#agreed === null || this.#sockets.length < this.#agreed) return
    // The last words of a channel that failed go where the client still listens.
    if (this.#isClosed || this.#channel.failed.aborted) return
    this.#stopListening()
    if (this.#sockets.length > this.#agreed)
      return this.#channel.fail(protocolError('more streams than are bonded'))
    this.#channel.post(FRAME.bonded, 0, encodeControl({ members: this.#agreed + 1 }))
    this.#channel.sendOver(openBondOutput([this.#output, ...this.#sockets]))
  }

  #stopListening(): void {
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#listener?.close()
  }
}

const AGAIN = 'Run the same command again; it continues from what is there.'
