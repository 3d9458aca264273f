// Where a daemon listens and whom it tells: text in, an address out. Refuses addresses that others can reach: what is shown
// there is for this host, or for a proxy that asks who somebody is.

import { isIP } from 'node:net'

import type { ListenAddress } from './config.js'
import { wrong } from './problems.js'

/** sun_path of unix(7) has 108 bytes, the last of which is zero. */
const MAX_SOCKET_PATH_BYTES = 107
const MAX_URL = 2048

const LISTEN_HINT = 'write for example 127.0.0.1:9876 or unix:/run/blocksync/http.sock'

/** `127.0.0.1:PORT`, `localhost:PORT`, `[::1]:PORT` or `unix:/path`. Rejects with config/invalid. */
export function listenOf(text: string): ListenAddress {
  if (text.startsWith('unix:')) {
    const path = text.slice('unix:'.length)
    if (!path.startsWith('/')) throw wrong(`'${text}' has no absolute path behind unix:; ${LISTEN_HINT}`)
    if (Buffer.byteLength(path) > MAX_SOCKET_PATH_BYTES)
      throw wrong(`the path of a socket has at most ${MAX_SOCKET_PATH_BYTES} bytes`)
    return { kind: 'unix', path: absolutePath(path) }
  }
  const parts = /^(?:\[([^\]]*)\]|([^:[\]]*)):([0-9]{1,5})$/.exec(text)
  const host = parts?.[1] ?? parts?.[2] ?? ''
  const port = Number(parts?.[3])
  if (parts === null || host === '' || !(port >= 1 && port <= 65535))
    throw wrong(`'${text.slice(0, 60)}' is not HOST:PORT; ${LISTEN_HINT}`)
  if (!isLoopback(host))
    throw wrong(
      `${host} is not only this host, and nobody is asked who he is; listen on 127.0.0.1:${port} and put a proxy in front`,
    )
  return { kind: 'tcp', host, port }
}

function isLoopback(host: string): boolean {
  if (host === 'localhost') return true
  return isIP(host) === 4 ? host.startsWith('127.') : host === '::1'
}

/** An http or https URL without a password. Rejects with config/invalid. */
export function urlOf(text: string): string {
  const url = text.length <= MAX_URL && URL.canParse(text) ? new URL(text) : null
  if (url === null || (url.protocol !== 'http:' && url.protocol !== 'https:'))
    throw wrong(
      `'${text.slice(0, 60)}' is not an http or https URL; write for example https://hc.example/ping/1234`,
    )
  if (url.username !== '' || url.password !== '')
    throw wrong('a user or password does not belong in this URL')
  return url.href
}

/** Something before an @ and something behind, without what a mail program would take for more than one address. */
export function mailOf(text: string): string {
  if (/^[^\s@,;:<>()"\\-][^\s@,;:<>()"\\]*(?:@[^\s@,;:<>()"\\]+)?$/.test(text) && text.length <= 254)
    return text
  throw wrong(`'${text.slice(0, 60)}' is not one mail address; write for example admin@example.org`)
}

/** A path from the root, of a file. Rejects with config/invalid. */
export function absolutePath(text: string): string {
  if (!text.startsWith('/')) throw wrong(`'${text.slice(0, 60)}' is not an absolute path; begin it with /`)
  if (text.endsWith('/') || text.split('/').includes('..'))
    throw wrong(`'${text.slice(0, 60)}' is not the plain path of a file`)
  return text
}

/** Where node_exporter looks: it reads no file with another ending. */
export function textfileOf(text: string): string {
  const path = absolutePath(text)
  if (path.endsWith('.prom')) return path
  throw wrong(`'${text.slice(0, 60)}' does not end in .prom, and node_exporter reads no other file`)
}
