/* A regular file in, where the file system has its content out: rows of the extent map (FIEMAP). What no JavaScript number holds
 * exactly is refused, and so is what is no regular file. */
#define _GNU_SOURCE
#include "core.h"

#include <errno.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <sys/ioctl.h>

/* Extents that one ioctl is asked for, 56 bytes each. */
#define MAP_BATCH 1024
/* The first whole number that a double shares with its neighbour. */
#define NUMBER_END ((uint64_t)1 << 53)

/* True where physical places of this file are on a device of their own (xfs: real-time), and the map does not say so. */
static bool is_on_other_device(int fd) {
  struct fsxattr attributes;
  return ioctl(fd, FS_IOC_FSGETXATTR, &attributes) == 0 && (attributes.fsx_xflags & FS_XFLAG_REALTIME) != 0;
}

static bool is_number(const struct fiemap_extent *extent) {
  return extent->fe_logical < NUMBER_END && extent->fe_physical < NUMBER_END && extent->fe_length < NUMBER_END &&
         extent->fe_logical + extent->fe_length < NUMBER_END && extent->fe_physical + extent->fe_length < NUMBER_END;
}

size_t disk_extent_map(int fd, range within, double *rows, size_t capacity, failure *failed) {
  struct stat facts;
  if (stat_of(fd, &facts) != 0) {
    fail(failed, errno, "fstat", within.offset);
    return 0;
  }
  if (!S_ISREG(facts.st_mode)) {
    /* what the kernel says of a device; directories have maps too, which are nobody's content */
    fail(failed, ENOTTY, "ioctl FS_IOC_FIEMAP", within.offset);
    return 0;
  }
  struct fiemap *map = calloc(1, sizeof *map + MAP_BATCH * sizeof map->fm_extents[0]);
  if (map == NULL) {
    fail(failed, ENOMEM, "malloc", within.offset);
    return 0;
  }
  uint32_t always = is_on_other_device(fd) ? FIEMAP_EXTENT_UNKNOWN : 0;
  uint64_t at = within.offset;
  uint64_t end = within.offset + within.length;
  size_t count = 0;
  bool is_more = true;
  while (is_more && at < end && count < capacity) {
    size_t room = capacity - count < MAP_BATCH ? capacity - count : MAP_BATCH;
    *map = (struct fiemap){.fm_start = at, .fm_length = end - at, .fm_flags = at == 0 ? FIEMAP_FLAG_SYNC : 0,
                           .fm_extent_count = (uint32_t)room};
    if (ioctl(fd, FS_IOC_FIEMAP, map) != 0) {
      fail(failed, errno, "ioctl FS_IOC_FIEMAP", at);
      break;
    }
    uint64_t before = at;
    bool is_full = map->fm_mapped_extents == room;
    for (uint32_t index = 0; index < map->fm_mapped_extents && index < room; index++) {
      const struct fiemap_extent *extent = &map->fm_extents[index];
      if (!is_number(extent)) {
        fail(failed, EOVERFLOW, "ioctl FS_IOC_FIEMAP", extent->fe_logical < end ? extent->fe_logical : at);
        break;
      }
      if ((extent->fe_flags & FIEMAP_EXTENT_LAST) != 0) is_more = false;
      /* Some file systems begin before what was asked for and end behind it. */
      uint64_t from = extent->fe_logical > at ? extent->fe_logical : at;
      uint64_t to = extent->fe_logical + extent->fe_length < end ? extent->fe_logical + extent->fe_length : end;
      if (to <= from) continue;
      double *row = rows + count++ * EXTENT_MAP_NUMBERS;
      row[0] = (double)from;
      row[1] = (double)(extent->fe_physical + (from - extent->fe_logical));
      row[2] = (double)(to - from);
      row[3] = (double)(extent->fe_flags | always);
      at = to;
    }
    if (failed->err != 0) break;
    if (at == before) {
      /* nothing, or nothing of this range, is the end; but where no more fitted, the kernel goes round in a circle */
      if (is_more && is_full) fail(failed, EIO, "ioctl FS_IOC_FIEMAP", at);
      is_more = false;
    }
  }
  free(map);
  return failed->err == 0 ? count : 0;
}
