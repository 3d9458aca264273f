/* Ranges of a descriptor in, digests out: from the page cache what is there, around it what is not, so that the cache
 * stays as it was found. Interrupted reads are repeated, short ones continued; the end of the file ends a read. */
#define _GNU_SOURCE /* O_DIRECT */
#include "core.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* What stays in a core's L2 between the copy out of the page cache and the digest. */
#define CACHED_CHUNK_BYTES ((size_t)256 << 10)

/* One call under way. `around_fd` reads past the page cache, or is -1. */
typedef struct {
  const digest_request *request;
  digest_state state;
  leaf_sink sink;
  uint8_t *scratch;
  int around_fd;
  bool is_around_only;
  size_t cached_chunk_bytes;
  size_t direct_chunk_bytes;
  read_count count;
} reader;

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
 * What is dirty in the page cache is not missed: the kernel writes it out before it reads around the cache
 * (kiocb_write_and_wait of mm/filemap.c, which every direct read of a file or device goes through).
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

/* Whole leaves, one at least, so that a leaf is never in two chunks. */
static size_t chunk_of(size_t limit, size_t leaf_bytes) {
  return leaf_bytes > limit ? leaf_bytes : limit / leaf_bytes * leaf_bytes;
}

/* Asked before every read. preadv2(RWF_NOWAIT) would be one call less, but where it finds nothing it starts to read ahead
 * into the page cache (page_cache_sync_readahead in filemap_get_pages, since Linux 5.9): that fills the cache, and reads twice. */
static bool is_cached(const reader *reading, uint64_t offset, size_t length) {
  int64_t cached = cached_pages(reading->request->fd, offset, length);
  return cached < 0 || (uint64_t)cached >= pages_of(offset, length);
}

/* Reads and digests one chunk in one way; returns the bytes read. */
static size_t take_chunk(reader *reading, uint64_t offset, size_t length, bool is_around, failure *failed) {
  uint8_t *into = reading->request->into;
  uint8_t *data = into == NULL || is_around ? reading->scratch : into + reading->count.bytes;
  size_t got = is_around ? read_direct(reading->around_fd, reading->scratch, length, offset, &data, failed)
                         : read_cached(reading->request->fd, data, length, offset, failed);
  if (failed->err != 0) return 0;
  digest_leaves(&reading->sink, data, got);
  if (is_around && into != NULL) memcpy(into + reading->count.bytes, data, got);
  reading->count.bytes += got;
  if (is_around) reading->count.cold_bytes += got;
  return got;
}

/* Reads one direct chunk's worth in the way that suits it. False at the end of the file and after a failure. */
static bool take_piece(reader *reading, uint64_t offset, size_t length, failure *failed) {
  if (reading->is_around_only || (reading->around_fd >= 0 && !is_cached(reading, offset, length))) {
    size_t got = take_chunk(reading, offset, length, true, failed);
    if (failed->err != EINVAL || reading->is_around_only) return failed->err == 0 && got == length;
    /* A file system may take the flag and then no direct read: from here on as if it had not. */
    *failed = (failure){0};
    reading->around_fd = -1;
  }
  for (size_t done = 0; done < length;) {
    size_t want = length - done < reading->cached_chunk_bytes ? length - done : reading->cached_chunk_bytes;
    if (take_chunk(reading, offset + done, want, false, failed) < want) return false;
    done += want;
  }
  return true;
}

static bool take_range(reader *reading, range left, failure *failed) {
  while (left.length > 0) {
    size_t length = left.length < reading->direct_chunk_bytes ? (size_t)left.length : reading->direct_chunk_bytes;
    if (!take_piece(reading, left.offset, length, failed)) return false;
    left.offset += length;
    left.length -= length;
  }
  return true;
}

/* The range at `*index` and those that lie behind it without a gap; moves `*index` past them. */
static range joined(const digest_request *request, size_t *index) {
  range whole = request->ranges[(*index)++];
  while (*index < request->range_count && whole.length % request->leaf_bytes == 0 &&
         request->ranges[*index].offset == whole.offset + whole.length) {
    whole.length += request->ranges[(*index)++].length;
  }
  return whole;
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

read_count disk_digest(const digest_request *request, failure *failed) {
  int flags = fcntl(request->fd, F_GETFL);
  if (flags < 0) {
    fail(failed, errno, "fcntl", request->range_count > 0 ? request->ranges[0].offset : 0);
    return (read_count){0};
  }
  bool is_direct = (flags & O_DIRECT) != 0;
  reader reading = {.request = request,
                    .around_fd = is_direct ? request->fd : request->direct_fd,
                    .is_around_only = is_direct,
                    .cached_chunk_bytes = chunk_of(CACHED_CHUNK_BYTES, request->leaf_bytes),
                    .direct_chunk_bytes = chunk_of(DIRECT_CHUNK_BYTES, request->leaf_bytes)};
  size_t scratch_bytes = reading.direct_chunk_bytes + SLACK_BYTES;
  bool needs_scratch = reading.around_fd >= 0 || request->into == NULL;
  if (needs_scratch && (reading.scratch = scratch_take(scratch_bytes)) == NULL) {
    fail(failed, ENOMEM, "malloc", 0);
    return (read_count){0};
  }
  digest_begin(&reading.state, request->algorithm, request->seed);
  reading.sink = (leaf_sink){.state = &reading.state, .leaf_bytes = request->leaf_bytes, .leaves = request->leaves,
                             .zero = request->zero_leaves};
  for (size_t index = 0; index < request->range_count;) {
    if (!take_range(&reading, joined(request, &index), failed)) break;
  }
  if (failed->err == 0 && request->blocks != NULL) make_blocks(request, &reading.state, reading.count.bytes);
  if (needs_scratch) scratch_give(reading.scratch, scratch_bytes);
  return reading.count;
}
