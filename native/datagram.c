/* One datagram to a unix socket: Node.js has no such sockets, and systemd listens on one. Waits for nothing: where the
 * receiver's queue is full, that is the failure (EAGAIN). */
#define _GNU_SOURCE /* SOCK_CLOEXEC */
#include "core.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

void datagram_send(const uint8_t *address, size_t address_bytes, const uint8_t *data, size_t data_bytes, failure *failed) {
  struct sockaddr_un to = {.sun_family = AF_UNIX};
  if (address_bytes == 0 || address_bytes > sizeof to.sun_path) {
    fail(failed, ENAMETOOLONG, "sendto", 0);
    return;
  }
  memcpy(to.sun_path, address, address_bytes);
  int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) {
    fail(failed, errno, "socket", 0);
    return;
  }
  /* An abstract name has no end but its length (unix(7)): no byte more may be counted. */
  socklen_t length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + address_bytes);
  ssize_t sent;
  do sent = sendto(fd, data, data_bytes, MSG_NOSIGNAL | MSG_DONTWAIT, (const struct sockaddr *)&to, length);
  while (sent < 0 && errno == EINTR);
  if (sent < 0) fail(failed, errno, "sendto", 0);
  close(fd);
}
