// How virsh on the source reaches libvirt at the destination: what --dest-connect says, or else the host as it was typed.
// Refuses nothing; libvirt says what it cannot do with a URI.

export type Login = Readonly<{ host: string; user: string | null; port: number | null }>

export type DestinationUris = Readonly<{
  /** For the driver on the destination, which asks its own daemon; null is the usual one. */
  there: string | null
  /** For virsh here; null where it follows from what the driver there uses. */
  fromHere: string | null
}>

const URI = /^([a-z0-9]+)(\+[a-z0-9]+)?:\/\/([^/]*)(\/.*)?$/

/** A --dest-connect with a host in it is how to get there; the daemon is asked there, without it. */
export function destinationUris(typed: string | null): DestinationUris {
  const [, scheme = '', , host = '', path = ''] = URI.exec(typed ?? '') ?? []
  if (typed === null || host === '') return { there: typed, fromHere: null }
  const [plainPath = ''] = path.split('?')
  return { there: `${scheme}://${plainPath === '' ? '/system' : plainPath}`, fromHere: typed }
}

/** 'qemu:///system' there is 'qemu+ssh://root@host2/system' from here (https://libvirt.org/uri.html). */
export function sshUri(there: string, { host, user, port }: Login, identity: string | null): string {
  const [, scheme = 'qemu', , , path = '/system'] = URI.exec(there) ?? []
  const name = host.includes(':') ? `[${host}]` : host
  const login = `${user === null ? '' : `${user}@`}${name}${port === null ? '' : `:${port}`}`
  const key =
    identity === null ? '' : `${path.includes('?') ? '&' : '?'}keyfile=${encodeURIComponent(identity)}`
  return `${scheme}+ssh://${login}${path}${key}`
}
