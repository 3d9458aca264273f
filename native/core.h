/* What the three parts of the core share: digests (digest.c), disks (disk.c), Node-API (blocksync.c).
 * Nothing here knows JavaScript; sizes were checked by the caller, nothing is global but the scratch pool in disk.c. */
#ifndef BLOCKSYNC_CORE_H
#define BLOCKSYNC_CORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

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

/* One read-and-digest over ranges. `into` and `blocks`/`zero_blocks` may be NULL (then they are not made). */
typedef struct {
  int fd;
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

typedef struct {
  uint64_t size_bytes;
  uint32_t logical_sector_bytes;
  uint32_t physical_sector_bytes;
  bool is_block_device;
} disk_geometry;

/* digest.c */
void digest_begin(digest_state *state, int algorithm, const uint8_t seed[SEED_BYTES]);
void digest_one(const digest_state *state, const uint8_t *data, size_t length, uint8_t out[DIGEST_BYTES]);
void digest_items(const digest_state *state, const uint8_t *data, size_t length, size_t item_bytes, uint8_t *out);
void digest_leaves(leaf_sink *sink, const uint8_t *data, size_t length);
const char *digest_simd(void);

/* disk.c: each returns what its name says and fills `failure` when it could not */
uint64_t disk_digest(const digest_request *request, failure *failed);
void disk_write(int fd, const range *ranges, size_t range_count, const uint8_t *from, failure *failed);
size_t disk_extents(int fd, range within, double *triples, size_t capacity, failure *failed);
void disk_zero(int fd, range within, failure *failed);
void disk_geometry_of(int fd, disk_geometry *geometry, failure *failed);
void disk_drop_cache(int fd, failure *failed);

#endif
