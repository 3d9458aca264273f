/* Bytes in, digests out: XXH3-128 with a seed, or XXH64 with two seeds. Pure functions over memory, no system call. */
#define XXH_STATIC_LINKING_ONLY
#include "core.h"

#include <string.h>

#include "xxhash.h"
#if defined(__x86_64__)
#include "xxh_x86dispatch.h" /* replaces the XXH3 names by those that pick the instruction set at run time */
#endif

/* Up to here XXH3 uses the seed itself and not the secret made from it (XXH3_MIDSIZE_MAX in xxHash). */
#define XXH3_SHORT_BYTES 240
/* Mixed into the second seed where both halves are equal, or the two XXH64 would be one (2^64 / golden ratio). */
#define EQUAL_SEED_MIX 0x9E3779B97F4A7C15ULL
/* Step of the zero test: long enough for vector code, short enough to leave early. */
#define ZERO_STEP_BYTES 256

static uint64_t little_endian_64(const uint8_t *bytes) {
  uint64_t value = 0;
  for (int index = 7; index >= 0; index--) value = value << 8 | bytes[index];
  return value;
}

void digest_begin(digest_state *state, int algorithm, const uint8_t seed[SEED_BYTES]) {
  state->algorithm = algorithm;
  state->seed_a = little_endian_64(seed);
  state->seed_b = little_endian_64(seed + 8);
  if (state->seed_a == state->seed_b) state->seed_b ^= EQUAL_SEED_MIX;
  if (algorithm == ALGORITHM_XXH3_128) XXH3_generateSecret_fromSeed(state->secret, state->seed_a);
}

void digest_one(const digest_state *state, const uint8_t *data, size_t length, uint8_t out[DIGEST_BYTES]) {
  if (state->algorithm == ALGORITHM_XXH3_128) {
    XXH128_hash_t hash = length <= XXH3_SHORT_BYTES
                             ? XXH3_128bits_withSeed(data, length, state->seed_a)
                             : XXH3_128bits_withSecret(data, length, state->secret, SECRET_BYTES);
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, hash);
    memcpy(out, canonical.digest, DIGEST_BYTES);
    return;
  }
  XXH64_canonical_t canonical;
  XXH64_canonicalFromHash(&canonical, XXH64(data, length, state->seed_a));
  memcpy(out, canonical.digest, 8);
  XXH64_canonicalFromHash(&canonical, XXH64(data, length, state->seed_b));
  memcpy(out + 8, canonical.digest, 8);
}

void digest_items(const digest_state *state, const uint8_t *data, size_t length, size_t item_bytes, uint8_t *out) {
  while (length > 0) {
    size_t item = length < item_bytes ? length : item_bytes;
    digest_one(state, data, item, out);
    data += item;
    length -= item;
    out += DIGEST_BYTES;
  }
}

/* Looks at every byte, and at only the first few where those are not zero. */
static bool is_zero(const uint8_t *data, size_t length) {
  uint64_t first = 0;
  memcpy(&first, data, length < 8 ? length : 8);
  if (first != 0) return false;
  while (length >= ZERO_STEP_BYTES) {
    uint64_t words[ZERO_STEP_BYTES / 8];
    uint64_t any = 0;
    memcpy(words, data, ZERO_STEP_BYTES);
    for (size_t index = 0; index < ZERO_STEP_BYTES / 8; index++) any |= words[index];
    if (any != 0) return false;
    data += ZERO_STEP_BYTES;
    length -= ZERO_STEP_BYTES;
  }
  uint8_t any = 0;
  for (size_t index = 0; index < length; index++) any |= data[index];
  return any == 0;
}

void digest_leaves(leaf_sink *sink, const uint8_t *data, size_t length) {
  while (length > 0) {
    size_t leaf = length < sink->leaf_bytes ? length : sink->leaf_bytes;
    bool zero = is_zero(data, leaf);
    if (zero && leaf == sink->leaf_bytes) {
      if (!sink->has_zero_digest) {
        digest_one(sink->state, data, leaf, sink->zero_digest);
        sink->has_zero_digest = true;
      }
      memcpy(sink->leaves, sink->zero_digest, DIGEST_BYTES);
    } else {
      digest_one(sink->state, data, leaf, sink->leaves);
    }
    *sink->zero++ = zero;
    sink->leaves += DIGEST_BYTES;
    data += leaf;
    length -= leaf;
  }
}

const char *digest_simd(void) {
#if defined(__x86_64__)
  switch (XXH_featureTest()) {
    case 3: return "avx512";
    case 2: return "avx2";
    case 1: return "sse2";
    default: return "scalar";
  }
#elif defined(__ARM_NEON)
  return "neon";
#else
  return "scalar";
#endif
}
