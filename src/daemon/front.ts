// What a daemon shows, opened together as the configuration says: the server of HTTP and the textfile. Refuses an address that is not
// to be had; a textfile that cannot be written is a warning.

import { addressText, openHttp } from './http.js'
import { openTextfile } from './textfile.js'
import type { OpenFront } from './view.js'

/** See OpenFront. */
export const openFront: OpenFront = async ({ listen, textfile }, view, log) => {
  const server = listen === null ? null : await openHttp(listen, view, log)
  if (listen !== null) log('info', null, `status and metrics at ${addressText(listen)}`)
  const file = textfile === null ? null : openTextfile(textfile, view, log)
  return {
    async [Symbol.asyncDispose]() {
      await file?.[Symbol.asyncDispose]()
      await server?.[Symbol.asyncDispose]()
    },
  }
}
