/* Descriptors in, facts out: holes, sizes, what the page cache has; cache drop, pipes.
 * Every failure is reported with its offset. */
#define _GNU_SOURCE /* SEEK_DATA, pipe2 */
#include "core.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The most that a user without privilege may ask for (/proc/sys/fs/pipe-max-size); the size a pipe has anyway. */
#define PIPE_BYTES (1 << 20)
#define MIN_PIPE_BYTES (1 << 16)
/* Pages that one mincore is asked about: one byte of answer for each, on the stack. */
#define MINCORE_PAGES 1024
/* cachestat(2) is newer than the C libraries this must run with; its number is one for all of these. */
#if defined(__x86_64__) || defined(__aarch64__) || defined(__riscv) || defined(__powerpc64__) || defined(__s390x__)
#define CACHESTAT_NUMBER 451
#endif

/* The kernel's own fstat: glibc's wrapper would tie the binary to glibc 2.33, and the layout is the same. */
int stat_of(int fd, struct stat *facts) {
#if defined(__x86_64__) || defined(__aarch64__)
  return (int)syscall(SYS_fstat, fd, facts);
#else
  return fstat(fd, facts);
#endif
}

static uint64_t page_bytes(void) { return (uint64_t)sysconf(_SC_PAGESIZE); }

uint64_t pages_of(uint64_t offset, uint64_t length) {
  uint64_t page = page_bytes();
  return (offset + length + page - 1) / page - offset / page;
}

/* Pages of a range that are in the page cache, by cachestat(2) (Linux 6.5); -1 where the kernel has none or will not say. */
static int64_t cachestat_pages(int fd, uint64_t offset, uint64_t length) {
#ifdef CACHESTAT_NUMBER
  /* struct cachestat_range and struct cachestat of linux/mman.h */
  uint64_t within[2] = {offset, length};
  struct {
    uint64_t cached, dirty, writeback, evicted, recently_evicted;
  } found;
  return syscall(CACHESTAT_NUMBER, fd, within, &found, 0) == 0 ? (int64_t)found.cached : -1;
#else
  (void)fd, (void)offset, (void)length;
  return -1;
#endif
}

/* The same by mincore(2), for older kernels. Of a file that is not ours to write it says that all of it is there. */
static int64_t mincore_pages(int fd, uint64_t offset, uint64_t length) {
  uint64_t page = page_bytes();
  uint64_t end = offset + length;
  int64_t count = 0;
  for (uint64_t at = offset / page * page; at < end;) {
    size_t size = end - at < MINCORE_PAGES * page ? (size_t)(end - at) : (size_t)(MINCORE_PAGES * page);
    unsigned char resident[MINCORE_PAGES];
    /* mapped, never touched: a file that is cut meanwhile does no harm */
    void *mapped = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, (off_t)at);
    if (mapped == MAP_FAILED) return -1;
    int result = mincore(mapped, size, resident);
    munmap(mapped, size);
    if (result != 0) return -1;
    for (size_t index = 0; index < (size + page - 1) / page; index++) count += resident[index] & 1;
    at += size;
  }
  return count;
}

int64_t cached_pages(int fd, uint64_t offset, uint64_t length) {
  if (length == 0) return 0;
  int64_t found = cachestat_pages(fd, offset, length);
  return found >= 0 ? found : mincore_pages(fd, offset, length);
}

static size_t put_extent(double *triples, size_t count, uint64_t from, uint64_t to, int kind) {
  triples[count * 3] = (double)from;
  triples[count * 3 + 1] = (double)(to - from);
  triples[count * 3 + 2] = kind;
  return count + 1;
}

size_t disk_extents(int fd, range within, double *triples, size_t capacity, failure *failed) {
  struct stat facts;
  if (stat_of(fd, &facts) != 0) {
    fail(failed, errno, "fstat", within.offset);
    return 0;
  }
  uint64_t at = within.offset;
  uint64_t end = within.offset + within.length;
  bool is_file = S_ISREG(facts.st_mode);
  if (is_file && end > (uint64_t)facts.st_size) end = (uint64_t)facts.st_size;
  size_t count = 0;
  while (at < end && count < capacity) {
    if (!is_file) return put_extent(triples, count, at, end, 1);
    off_t data = lseek(fd, (off_t)at, SEEK_DATA);
    if (data < 0 && errno == ENXIO) return put_extent(triples, count, at, end, 0);
    if (data < 0 && (errno == EINVAL || errno == EOPNOTSUPP)) return put_extent(triples, count, at, end, 1);
    if (data < 0) {
      fail(failed, errno, "lseek", at);
      return 0;
    }
    if ((uint64_t)data > at) {
      uint64_t to = (uint64_t)data < end ? (uint64_t)data : end;
      count = put_extent(triples, count, at, to, 0);
      at = to;
      continue;
    }
    off_t hole = lseek(fd, (off_t)at, SEEK_HOLE);
    if (hole < 0 && errno != ENXIO) {
      fail(failed, errno, "lseek", at);
      return 0;
    }
    /* The file changed between the two questions where the hole is not behind us: data is never a wrong answer. */
    uint64_t to = hole > (off_t)at && (uint64_t)hole < end ? (uint64_t)hole : end;
    count = put_extent(triples, count, at, to, 1);
    at = to;
  }
  return count;
}

void disk_geometry_of(int fd, disk_geometry *geometry, failure *failed) {
  struct stat facts;
  if (stat_of(fd, &facts) != 0) {
    fail(failed, errno, "fstat", 0);
    return;
  }
  geometry->is_block_device = S_ISBLK(facts.st_mode);
  if (!geometry->is_block_device) {
    geometry->size_bytes = (uint64_t)facts.st_size;
    geometry->logical_sector_bytes = 512;
    geometry->physical_sector_bytes = (uint32_t)facts.st_blksize;
    return;
  }
  int logical = 0;
  unsigned int physical = 0;
  if (ioctl(fd, BLKGETSIZE64, &geometry->size_bytes) != 0) fail(failed, errno, "ioctl BLKGETSIZE64", 0);
  else if (ioctl(fd, BLKSSZGET, &logical) != 0) fail(failed, errno, "ioctl BLKSSZGET", 0);
  else if (ioctl(fd, BLKPBSZGET, &physical) != 0) fail(failed, errno, "ioctl BLKPBSZGET", 0);
  geometry->logical_sector_bytes = (uint32_t)logical;
  geometry->physical_sector_bytes = physical;
}

void disk_drop_cache(int fd, failure *failed) {
  struct stat facts;
  if (stat_of(fd, &facts) != 0) {
    fail(failed, errno, "fstat", 0);
    return;
  }
  /* BLKFLSBUF also drops what the kernel holds for the device itself; it needs a privilege that we may lack. */
  if (S_ISBLK(facts.st_mode) && ioctl(fd, BLKFLSBUF, 0) != 0 && errno != EACCES && errno != EPERM) {
    fail(failed, errno, "ioctl BLKFLSBUF", 0);
    return;
  }
  int err = posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
  if (err != 0) fail(failed, err, "posix_fadvise", 0);
}

bool disk_lock(int fd, bool is_exclusive, failure *failed) {
  int result;
  do result = flock(fd, (is_exclusive ? LOCK_EX : LOCK_SH) | LOCK_NB);
  while (result != 0 && errno == EINTR);
  if (result == 0) return true;
  if (errno != EWOULDBLOCK) fail(failed, errno, "flock", 0);
  return false;
}

void pipe_open(int fds[2], failure *failed) {
  if (pipe2(fds, O_CLOEXEC) != 0) {
    fail(failed, errno, "pipe2", 0);
    return;
  }
  /* Without a privilege a user's pipes together are bounded (pipe(7), pipe-user-pages-soft): then half as much, and so on. */
  for (int bytes = PIPE_BYTES; bytes > MIN_PIPE_BYTES && fcntl(fds[1], F_SETPIPE_SZ, bytes) < 0; bytes /= 2) {
  }
}
