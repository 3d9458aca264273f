/* What the parts of the core share: digests (digest.c), disks (read.c, write.c, disk.c), Node-API (blocksync.c, jobs.c).
 * Nothing here knows JavaScript; sizes were checked by the caller, nothing is global but the scratch pool in scratch.c. */
#ifndef BLOCKSYNC_CORE_H
#define BLOCKSYNC_CORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#define DIGEST_BYTES 16
#define SEED_BYTES 16
#define SECRET_BYTES 192 /* XXH3's default secret: the size that makes withSecret equal withSeed */

enum { ALGORITHM_XXH3_128 = 1, ALGORITHM_XXH64X2 = 2 };

/* The call that failed, its errno and where on the disk. err is 0 while nothing failed. */
typedef struct {
  int err;
  const char *call;
  uint64_t offset;
} failure;

typedef struct {
  uint64_t offset;
  uint64_t length;
} range;

typedef struct {
  int algorithm;
  uint64_t seed_a;
  uint64_t seed_b;
  uint8_t secret[SECRET_BYTES];
} digest_state;

/* Where leaf digests go, packed: `leaves` and `zero` advance as leaves arrive. */
typedef struct {
  const digest_state *state;
  size_t leaf_bytes;
  uint8_t *leaves;
  uint8_t *zero;
  bool has_zero_digest;
  uint8_t zero_digest[DIGEST_BYTES];
} leaf_sink;

/* One read-and-digest over ranges. `into` and `blocks`/`zero_blocks` may be NULL (then they are not made).
 * `direct_fd` is the same file opened with O_DIRECT, or -1: what is not in the page cache is read there. */
typedef struct {
  int fd;
  int direct_fd;
  const range *ranges;
  size_t range_count;
  size_t leaf_bytes;
  size_t block_bytes;
  int algorithm;
  uint8_t seed[SEED_BYTES];
  uint8_t *into;
  uint8_t *leaves;
  uint8_t *blocks;
  uint8_t *zero_leaves;
  uint8_t *zero_blocks;
} digest_request;

/* What a read found. `cold_bytes` were not in the page cache, or were read around it: they came from the device. */
typedef struct {
  uint64_t bytes;
  uint64_t cold_bytes;
} read_count;

/* Packed bytes for ranges. `direct_fd` is the same disk opened with O_DIRECT, or -1. `fresh` has a byte for each range: 1 where
 * pages were made for it that were not in the page cache before. */
typedef struct {
  int fd;
  int direct_fd;
  const range *ranges;
  size_t range_count;
  const uint8_t *from;
  uint8_t *fresh;
} write_request;

typedef struct {
  uint64_t buffered_bytes; /* through the page cache: they wait to be written */
  bool is_direct_refused;  /* the descriptor does not take direct writes after all */
} write_count;

typedef struct {
  uint64_t size_bytes;
  uint32_t logical_sector_bytes;
  uint32_t physical_sector_bytes;
  bool is_block_device;
} disk_geometry;

/* O_DIRECT wants memory, offset and length in units of the logical sector; no disk has a larger one than this. */
#define ALIGN_BYTES ((uint64_t)4096)
/* Direct reads and writes wait for the disk, and larger requests keep it busier. */
#define DIRECT_CHUNK_BYTES ((size_t)1 << 20)
/* A direct read may begin and end up to one unit outside what was asked for. */
#define SLACK_BYTES ((size_t)(2 * ALIGN_BYTES))

/* digest.c */
void digest_begin(digest_state *state, int algorithm, const uint8_t seed[SEED_BYTES]);
void digest_one(const digest_state *state, const uint8_t *data, size_t length, uint8_t out[DIGEST_BYTES]);
void digest_items(const digest_state *state, const uint8_t *data, size_t length, size_t item_bytes, uint8_t *out);
void digest_leaves(leaf_sink *sink, const uint8_t *data, size_t length);
const char *digest_simd(void);

/* scratch.c: memory for direct I/O, aligned to any sector */
void *scratch_take(size_t bytes);
void scratch_give(void *scratch, size_t bytes);

static inline void fail(failure *failed, int err, const char *call, uint64_t offset) {
  *failed = (failure){err, call, offset};
}

/* disk.c, read.c, write.c: each returns what its name says and fills `failure` when it could not */
read_count disk_digest(const digest_request *request, failure *failed);
write_count disk_write(const write_request *request, failure *failed);
void disk_start_write_back(int fd, range within, failure *failed);
void disk_finish_write_back(int fd, range within, const range *drop, size_t drop_count, failure *failed);
size_t disk_extents(int fd, range within, double *triples, size_t capacity, failure *failed);
void disk_zero(int fd, const range *ranges, size_t range_count, failure *failed);
/* fstat; 0, or -1 and errno. */
int stat_of(int fd, struct stat *facts);
uint64_t pages_of(uint64_t offset, uint64_t length);
/* How many of those pages are in the page cache; looks without changing it. -1 where it cannot be known. */
int64_t cached_pages(int fd, uint64_t offset, uint64_t length);
void disk_geometry_of(int fd, disk_geometry *geometry, failure *failed);
void disk_drop_cache(int fd, failure *failed);
/* flock(2) without waiting: true when the lock is ours, false when somebody else has one that does not go with it. */
bool disk_lock(int fd, bool is_exclusive, failure *failed);

/* extent-map.c: rows of logical byte, physical byte, length and flags (linux/fiemap.h), ascending, clipped to `within`; what no row
 * covers is a hole. As many as fit; fewer only where `within` has no more. What is dirty is written out first where it begins with byte 0. */
#define EXTENT_MAP_NUMBERS 4
size_t disk_extent_map(int fd, range within, double *rows, size_t capacity, failure *failed);

/* openers.c: regular files and block devices that other processes have open, as rows of pid, fd, 1 for a block device, its
 * number or the file system's, and the inode. Every `slices`-th process, beginning with number `slice`. Returns how many rows there
 * are, also where `capacity` is less. */
#define DESCRIPTOR_NUMBERS 5
size_t open_descriptors(size_t slice, size_t slices, double *rows, size_t capacity, failure *failed);

/* datagram.c: one datagram to a unix socket, without waiting. `address` is sun_path: a path, or a zero and an abstract name. */
void datagram_send(const uint8_t *address, size_t address_bytes, const uint8_t *data, size_t data_bytes, failure *failed);

/* A pipe that programs started later do not inherit, as wide as the kernel grants: fds[0] reads, fds[1] writes. */
void pipe_open(int fds[2], failure *failed);

#endif
