/* Packed bytes in, ranges of a disk written: long runs around the page cache, the rest through it, and what waits there
 * is written back in time. Interrupted writes are repeated, short ones continued; every failure has its offset. */
#define _GNU_SOURCE /* sync_file_range, fallocate */
#include "core.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

/* Shorter runs cost more around the page cache, where each waits for the device, than through it: measured on ext4 in runs of
 * 16 KiB to 1 MiB, the two are equal at 64 to 128 KiB. */
#define DIRECT_WRITE_BYTES ((uint64_t)128 << 10)
/* The kernel cannot be interrupted inside one BLKZEROOUT; without offload it writes, so it gets pieces. */
#define ZERO_PIECE_BYTES ((uint64_t)128 << 20)

typedef struct {
  const write_request *request;
  int direct_fd;
  uint8_t *scratch;
  write_count count;
} writer;

/* Whole pages only: a page with a direct write in it must not also be dirty in the page cache. 4 KiB, elsewhere up to 64. */
static uint64_t direct_unit(void) {
  long page = sysconf(_SC_PAGESIZE);
  return page > (long)ALIGN_BYTES ? (uint64_t)page : ALIGN_BYTES;
}

static bool write_cached(writer *writing, range left, const uint8_t *from, failure *failed) {
  while (left.length > 0) {
    ssize_t put = pwrite(writing->request->fd, from, (size_t)left.length, (off_t)left.offset);
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) {
      fail(failed, put < 0 ? errno : EIO, "pwrite", left.offset);
      return false;
    }
    from += put;
    left.offset += (uint64_t)put;
    left.length -= (uint64_t)put;
    writing->count.buffered_bytes += (uint64_t)put;
  }
  return true;
}

/*
 * Writes whole units around the page cache; returns how many bytes. Less than all after a failure, and where the
 * descriptor takes no direct writes or stopped inside a unit: the rest goes through the cache, which then says why.
 */
static uint64_t write_direct(writer *writing, range whole, const uint8_t *from, failure *failed) {
  uint64_t done = 0;
  while (done < whole.length) {
    size_t length = whole.length - done < DIRECT_CHUNK_BYTES ? (size_t)(whole.length - done) : DIRECT_CHUNK_BYTES;
    const uint8_t *data = from + done;
    if ((uintptr_t)data % ALIGN_BYTES != 0) {
      if (writing->scratch == NULL && (writing->scratch = scratch_take(DIRECT_CHUNK_BYTES)) == NULL) return done;
      data = memcpy(writing->scratch, data, length);
    }
    ssize_t put = pwrite(writing->direct_fd, data, length, (off_t)(whole.offset + done));
    if (put < 0 && errno == EINTR) continue;
    if (put < 0 && (errno == EINVAL || errno == EOPNOTSUPP)) {
      writing->direct_fd = -1;
      writing->count.is_direct_refused = true;
      return done;
    }
    if (put <= 0) {
      fail(failed, put < 0 ? errno : EIO, "pwrite", whole.offset + done);
      return done;
    }
    uint64_t units = (uint64_t)put / direct_unit() * direct_unit();
    if (units == 0) return done;
    done += units;
  }
  return done;
}

static bool write_run(writer *writing, range run, const uint8_t *from, failure *failed) {
  uint64_t unit = direct_unit();
  uint64_t begin = (run.offset + unit - 1) / unit * unit;
  uint64_t end = (run.offset + run.length) / unit * unit;
  if (writing->direct_fd < 0 || end < begin || end - begin < DIRECT_WRITE_BYTES) {
    return write_cached(writing, run, from, failed);
  }
  if (!write_cached(writing, (range){run.offset, begin - run.offset}, from, failed)) return false;
  uint64_t done = begin - run.offset + write_direct(writing, (range){begin, end - begin}, from + (begin - run.offset), failed);
  if (failed->err != 0) return false;
  return write_cached(writing, (range){run.offset + done, run.length - done}, from + done, failed);
}

write_count disk_write(const write_request *request, failure *failed) {
  writer writing = {.request = request, .direct_fd = request->direct_fd};
  const uint8_t *from = request->from;
  for (size_t first = 0, next; first < request->range_count; first = next) {
    range run = request->ranges[first];
    for (next = first + 1; next < request->range_count && request->ranges[next].offset == run.offset + run.length; next++) {
      run.length += request->ranges[next].length;
    }
    bool is_fresh = request->fresh != NULL && cached_pages(request->fd, run.offset, run.length) == 0;
    if (!write_run(&writing, run, from, failed)) break;
    if (request->fresh != NULL) memset(request->fresh + first, is_fresh, next - first);
    from += run.length;
  }
  if (writing.scratch != NULL) scratch_give(writing.scratch, DIRECT_CHUNK_BYTES);
  return writing.count;
}

static void sync_range(int fd, range within, unsigned flags, failure *failed) {
  int result;
  do result = sync_file_range(fd, (off_t)within.offset, (off_t)within.length, flags);
  while (result != 0 && errno == EINTR);
  if (result != 0) fail(failed, errno, "sync_file_range", within.offset);
}

/* Dirty pages begin their way to the disk; nothing is waited for, unless the device's queue is full. */
void disk_start_write_back(int fd, range within, failure *failed) { sync_range(fd, within, SYNC_FILE_RANGE_WRITE, failed); }

/*
 * Waits until the dirty pages of a range were written, and takes those of `drop` out of the page cache. A failure here must
 * not be lost: waiting takes the error off this descriptor (file_check_and_advance_wb_err under sync_file_range(2) in the
 * kernel's fs/sync.c), so that a later fsync through it reports success.
 */
void disk_finish_write_back(int fd, range within, const range *drop, size_t drop_count, failure *failed) {
  sync_range(fd, within, SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER, failed);
  for (size_t index = 0; failed->err == 0 && index < drop_count; index++) {
    int err = posix_fadvise(fd, (off_t)drop[index].offset, (off_t)drop[index].length, POSIX_FADV_DONTNEED);
    if (err != 0) fail(failed, err, "posix_fadvise", drop[index].offset);
  }
}

static bool punch_hole(int fd, range hole, failure *failed) {
  int result;
  do result = fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)hole.offset, (off_t)hole.length);
  while (result != 0 && errno == EINTR);
  if (result != 0) fail(failed, errno == ENOSYS ? EOPNOTSUPP : errno, "fallocate", hole.offset);
  return result == 0;
}

static bool zero_device(int fd, range left, failure *failed) {
  while (left.length > 0) {
    uint64_t piece = left.length < ZERO_PIECE_BYTES ? left.length : ZERO_PIECE_BYTES;
    uint64_t argument[2] = {left.offset, piece};
    if (ioctl(fd, BLKZEROOUT, argument) != 0) {
      if (errno == EINTR) continue;
      fail(failed, errno == ENOTTY ? EOPNOTSUPP : errno, "ioctl BLKZEROOUT", left.offset);
      return false;
    }
    left.offset += piece;
    left.length -= piece;
  }
  return true;
}

void disk_zero(int fd, const range *ranges, size_t range_count, failure *failed) {
  struct stat facts;
  if (range_count == 0) return;
  if (stat_of(fd, &facts) != 0) {
    fail(failed, errno, "fstat", ranges[0].offset);
    return;
  }
  for (size_t index = 0; index < range_count; index++) {
    if (ranges[index].length == 0) continue;
    if (!(S_ISBLK(facts.st_mode) ? zero_device(fd, ranges[index], failed) : punch_hole(fd, ranges[index], failed))) return;
  }
}
