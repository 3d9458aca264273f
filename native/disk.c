/* Descriptors in, bytes and facts out: reads (page cache or O_DIRECT), writes, holes, zeroing, sizes, cache drop.
 * Interrupted calls are repeated, short ones continued; end of file ends a read; every other failure is reported with its offset. */
#define _GNU_SOURCE /* O_DIRECT, SEEK_DATA, fallocate */
#include "core.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* O_DIRECT wants memory, offset and length in units of the logical sector; no disk has a larger one than this. */
#define ALIGN_BYTES ((uint64_t)4096)
/* What stays in a core's L2 between the copy out of the page cache and the digest. */
#define CACHED_CHUNK_BYTES ((size_t)256 << 10)
/* Direct reads wait for the disk, and larger requests keep it busier. */
#define DIRECT_CHUNK_BYTES ((size_t)1 << 20)
/* A direct read may begin and end up to one unit outside what was asked for. */
#define SLACK_BYTES ((size_t)(2 * ALIGN_BYTES))
#define SCRATCH_BYTES (DIRECT_CHUNK_BYTES + SLACK_BYTES)
/* The kernel cannot be interrupted inside one BLKZEROOUT; without offload it writes, so it gets pieces. */
#define ZERO_PIECE_BYTES ((uint64_t)128 << 20)
/* Scratch kept for the next call: fresh pages cost as much as digesting them. More calls at once allocate theirs. */
#define POOL_SLOTS 8

static _Atomic(void *) scratch_pool[POOL_SLOTS];

static void *scratch_take(size_t bytes) {
  if (bytes <= SCRATCH_BYTES) {
    for (int slot = 0; slot < POOL_SLOTS; slot++) {
      void *scratch = atomic_exchange(&scratch_pool[slot], NULL);
      if (scratch != NULL) return scratch;
    }
    bytes = SCRATCH_BYTES;
  }
  void *scratch = NULL;
  return posix_memalign(&scratch, ALIGN_BYTES, bytes) == 0 ? scratch : NULL;
}

static void scratch_give(void *scratch, size_t bytes) {
  if (bytes <= SCRATCH_BYTES) {
    for (int slot = 0; slot < POOL_SLOTS; slot++) {
      void *empty = NULL;
      if (atomic_compare_exchange_strong(&scratch_pool[slot], &empty, scratch)) return;
    }
  }
  free(scratch);
}

__attribute__((destructor)) static void scratch_free_all(void) {
  for (int slot = 0; slot < POOL_SLOTS; slot++) free(atomic_exchange(&scratch_pool[slot], NULL));
}

static void fail(failure *failed, int err, const char *call, uint64_t offset) {
  failed->err = err;
  failed->call = call;
  failed->offset = offset;
}

/* The kernel's own fstat: glibc's wrapper would tie the binary to glibc 2.33, and the layout is the same. */
static int stat_of(int fd, struct stat *facts) {
#if defined(__x86_64__) || defined(__aarch64__)
  return (int)syscall(SYS_fstat, fd, facts);
#else
  return fstat(fd, facts);
#endif
}

static ssize_t read_at(int fd, void *into, size_t length, uint64_t offset) {
  ssize_t got;
  do got = pread(fd, into, length, (off_t)offset);
  while (got < 0 && errno == EINTR);
  return got;
}

/* Reads `length` bytes at `offset` into `into`; less only at the end of the file. */
static size_t read_cached(int fd, uint8_t *into, size_t length, uint64_t offset, failure *failed) {
  size_t done = 0;
  while (done < length) {
    ssize_t got = read_at(fd, into + done, length - done, offset + done);
    if (got < 0) {
      fail(failed, errno, "pread", offset + done);
      break;
    }
    if (got == 0) break;
    done += (size_t)got;
  }
  return done;
}

/*
 * The same through O_DIRECT: reads whole units around what was asked for into `scratch` and leaves the data at `*data`.
 * The kernel cuts a read at the end of a device or file, so the last one may be short and end at a sector. After a short
 * read the unit it stopped in is read again; nothing new there is the end.
 */
static size_t read_direct(int fd, uint8_t *scratch, size_t length, uint64_t offset, uint8_t **data, failure *failed) {
  uint64_t base = offset / ALIGN_BYTES * ALIGN_BYTES;
  uint64_t end = (offset + length + ALIGN_BYTES - 1) / ALIGN_BYTES * ALIGN_BYTES;
  uint64_t have = base; /* everything from base up to here is in scratch */
  *data = scratch + (offset - base);
  while (have < offset + length) {
    uint64_t from = have / ALIGN_BYTES * ALIGN_BYTES;
    ssize_t got = read_at(fd, scratch + (from - base), (size_t)(end - from), from);
    if (got < 0) {
      fail(failed, errno, "pread", from);
      break;
    }
    if (from + (uint64_t)got <= have) break;
    have = from + (uint64_t)got;
  }
  if (have <= offset) return 0;
  return have - offset < length ? (size_t)(have - offset) : length;
}

/* The digests of the blocks over the digests of their leaves, for `done` bytes. */
static void make_blocks(const digest_request *request, const digest_state *state, uint64_t done) {
  size_t leaves_per_block = request->block_bytes / request->leaf_bytes;
  size_t leaf_count = (size_t)((done + request->leaf_bytes - 1) / request->leaf_bytes);
  uint8_t *zero_block = request->zero_blocks;
  digest_items(state, request->leaves, leaf_count * DIGEST_BYTES, leaves_per_block * DIGEST_BYTES, request->blocks);
  for (size_t leaf = 0; leaf < leaf_count; leaf += leaves_per_block) {
    size_t count = leaf_count - leaf < leaves_per_block ? leaf_count - leaf : leaves_per_block;
    *zero_block++ = memchr(request->zero_leaves + leaf, 0, count) == NULL;
  }
}

uint64_t disk_digest(const digest_request *request, failure *failed) {
  int flags = fcntl(request->fd, F_GETFL);
  if (flags < 0) {
    fail(failed, errno, "fcntl", request->range_count > 0 ? request->ranges[0].offset : 0);
    return 0;
  }
  bool direct = (flags & O_DIRECT) != 0;
  size_t chunk_limit = direct ? DIRECT_CHUNK_BYTES : CACHED_CHUNK_BYTES;
  size_t chunk_bytes =
      request->leaf_bytes > chunk_limit ? request->leaf_bytes : chunk_limit / request->leaf_bytes * request->leaf_bytes;
  bool needs_scratch = direct || request->into == NULL;
  uint8_t *scratch = NULL;
  if (needs_scratch && (scratch = scratch_take(chunk_bytes + SLACK_BYTES)) == NULL) {
    fail(failed, ENOMEM, "malloc", 0);
    return 0;
  }
  digest_state state;
  digest_begin(&state, request->algorithm, request->seed);
  leaf_sink sink = {.state = &state, .leaf_bytes = request->leaf_bytes, .leaves = request->leaves, .zero = request->zero_leaves};
  uint64_t total = 0;
  bool ended = false;
  for (size_t index = 0; index < request->range_count && !ended; index++) {
    range left = request->ranges[index];
    while (left.length > 0 && !ended) {
      size_t want = left.length < chunk_bytes ? (size_t)left.length : chunk_bytes;
      uint8_t *data = direct || request->into == NULL ? scratch : request->into + total;
      size_t got = direct ? read_direct(request->fd, scratch, want, left.offset, &data, failed)
                          : read_cached(request->fd, data, want, left.offset, failed);
      if (failed->err != 0) break;
      digest_leaves(&sink, data, got);
      if (direct && request->into != NULL) memcpy(request->into + total, data, got);
      total += got;
      left.offset += got;
      left.length -= got;
      ended = got < want;
    }
    if (failed->err != 0) break;
  }
  if (failed->err == 0 && request->blocks != NULL) make_blocks(request, &state, total);
  if (needs_scratch) scratch_give(scratch, chunk_bytes + SLACK_BYTES);
  return total;
}

void disk_write(int fd, const range *ranges, size_t range_count, const uint8_t *from, failure *failed) {
  for (size_t index = 0; index < range_count; index++) {
    range left = ranges[index];
    while (left.length > 0) {
      ssize_t put = pwrite(fd, from, (size_t)left.length, (off_t)left.offset);
      if (put < 0 && errno == EINTR) continue;
      if (put <= 0) {
        fail(failed, put < 0 ? errno : EIO, "pwrite", left.offset);
        return;
      }
      from += put;
      left.offset += (uint64_t)put;
      left.length -= (uint64_t)put;
    }
  }
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

void disk_zero(int fd, range within, failure *failed) {
  struct stat facts;
  if (within.length == 0) return;
  if (stat_of(fd, &facts) != 0) {
    fail(failed, errno, "fstat", within.offset);
    return;
  }
  if (!S_ISBLK(facts.st_mode)) {
    int result;
    do result = fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)within.offset, (off_t)within.length);
    while (result != 0 && errno == EINTR);
    if (result != 0) fail(failed, errno == ENOSYS ? EOPNOTSUPP : errno, "fallocate", within.offset);
    return;
  }
  while (within.length > 0) {
    uint64_t piece = within.length < ZERO_PIECE_BYTES ? within.length : ZERO_PIECE_BYTES;
    uint64_t argument[2] = {within.offset, piece};
    if (ioctl(fd, BLKZEROOUT, argument) != 0) {
      if (errno == EINTR) continue;
      fail(failed, errno == ENOTTY ? EOPNOTSUPP : errno, "ioctl BLKZEROOUT", within.offset);
      return;
    }
    within.offset += piece;
    within.length -= piece;
  }
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
