/* Memory for direct I/O: sizes in, blocks out that are aligned to any sector. A few are kept for the next call;
 * NULL where there is no memory. */
#include "core.h"

#include <stdatomic.h>
#include <stdlib.h>

#define SCRATCH_BYTES (DIRECT_CHUNK_BYTES + SLACK_BYTES)
/* Scratch kept for the next call: fresh pages cost as much as digesting them. More calls at once allocate theirs. */
#define POOL_SLOTS 8

static _Atomic(void *) scratch_pool[POOL_SLOTS];

void *scratch_take(size_t bytes) {
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

void scratch_give(void *scratch, size_t bytes) {
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
