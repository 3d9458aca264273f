/* JavaScript values to C values: every type, size and range is checked here, before a byte is allocated or read.
 * What is refused leaves a TypeError or a RangeError pending, as arguments.h says. */
#include "arguments.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A leaf must fit into memory whole; options allow at most 16 MiB. */
#define MAX_LEAF_BYTES ((uint64_t)64 << 20)

static bool refuse_type(napi_env env, const char *name, const char *expected) {
  char message[160];
  snprintf(message, sizeof message, "%s must be %s", name, expected);
  napi_throw_type_error(env, "ERR_INVALID_ARG_TYPE", message);
  return false;
}

bool refuse_range(napi_env env, const char *name, const char *rule) {
  char message[160];
  snprintf(message, sizeof message, "%s %s", name, rule);
  napi_throw_range_error(env, "ERR_OUT_OF_RANGE", message);
  return false;
}

bool get_arguments(napi_env env, napi_callback_info info, size_t count, napi_value *values) {
  size_t given = MAX_ARGUMENTS;
  if (napi_get_cb_info(env, info, &given, values, NULL, NULL) != napi_ok) return refuse_type(env, "arguments", "readable");
  if (given < count) return refuse_type(env, "arguments", "complete");
  return true;
}

static bool is_size(double number) {
  return number >= 0 && number <= MAX_SAFE_INTEGER && number == (double)(uint64_t)number;
}

bool get_size(napi_env env, napi_value value, const char *name, uint64_t *out) {
  double number = 0;
  if (napi_get_value_double(env, value, &number) != napi_ok) return refuse_type(env, name, "a number");
  if (!is_size(number)) return refuse_range(env, name, "must be a whole number of bytes");
  *out = (uint64_t)number;
  return true;
}

/* -1 is what a closed FileHandle says; the kernel answers it with EBADF. */
bool get_fd(napi_env env, napi_value value, int *out) {
  double number = 0;
  if (napi_get_value_double(env, value, &number) != napi_ok) return refuse_type(env, "fd", "a number");
  if (!(number >= -1 && number <= INT_MAX) || number != (double)(int)number) return refuse_range(env, "fd", "must be a descriptor");
  *out = (int)number;
  return true;
}

static bool get_array(napi_env env, napi_value value, napi_typedarray_type type, const char *name, const char *expected,
                      size_t *length, void **data) {
  bool is_typed_array = false;
  napi_typedarray_type actual;
  if (napi_is_typedarray(env, value, &is_typed_array) != napi_ok || !is_typed_array) return refuse_type(env, name, expected);
  if (napi_get_typedarray_info(env, value, &actual, length, data, NULL, NULL) != napi_ok || actual != type) {
    return refuse_type(env, name, expected);
  }
  return true;
}

bool get_bytes(napi_env env, napi_value value, const char *name, bytes *out) {
  return get_array(env, value, napi_uint8_array, name, "a Uint8Array", &out->length, (void **)&out->data);
}

bool get_doubles(napi_env env, napi_value value, const char *name, size_t *length, double **out) {
  return get_array(env, value, napi_float64_array, name, "a Float64Array", length, (void **)out);
}

bool get_algorithm(napi_env env, napi_value algorithm, napi_value seed, int *out, uint8_t out_seed[SEED_BYTES]) {
  uint64_t number = 0;
  bytes seed_bytes;
  if (!get_size(env, algorithm, "algorithm", &number)) return false;
  if (number != ALGORITHM_XXH3_128 && number != ALGORITHM_XXH64X2) return refuse_range(env, "algorithm", "must be 1 or 2");
  if (!get_bytes(env, seed, "seed", &seed_bytes)) return false;
  if (seed_bytes.length != SEED_BYTES) return refuse_range(env, "seed", "must have 16 bytes");
  *out = (int)number;
  memcpy(out_seed, seed_bytes.data, SEED_BYTES);
  return true;
}

bool get_leaf_bytes(napi_env env, napi_value value, uint64_t *out) {
  if (!get_size(env, value, "leafBytes", out)) return false;
  if (*out < 1 || *out > MAX_LEAF_BYTES) return refuse_range(env, "leafBytes", "must be 1 to 67108864");
  return true;
}

uint64_t divide_up(uint64_t length, uint64_t unit) { return length / unit + (length % unit != 0); }

/* Pairs of doubles into a copy of our own: JavaScript may write to its array while we work. The caller frees `*out`. */
bool copy_ranges(napi_env env, napi_value value, uint64_t leaf_bytes, range **out, size_t *count, uint64_t *bytes_sum,
                 uint64_t *leaf_sum) {
  size_t length = 0;
  double *pairs = NULL;
  if (!get_doubles(env, value, "ranges", &length, &pairs)) return false;
  if (length % 2 != 0) return refuse_range(env, "ranges", "must be pairs of offset and length");
  range *ranges = malloc((length / 2 + 1) * sizeof *ranges);
  if (ranges == NULL) return refuse_range(env, "ranges", "are too many for the memory there is");
  uint64_t total = 0;
  uint64_t leaves = 0;
  for (size_t index = 0; index < length / 2; index++) {
    double offset = pairs[index * 2];
    double size = pairs[index * 2 + 1];
    bool is_good = is_size(offset) && is_size(size) && offset + size <= MAX_SAFE_INTEGER;
    if (is_good) {
      ranges[index] = (range){(uint64_t)offset, (uint64_t)size};
      total += ranges[index].length;
      leaves += divide_up(ranges[index].length, leaf_bytes);
      is_good = ranges[index].offset % leaf_bytes == 0 && (double)total <= MAX_SAFE_INTEGER;
    }
    if (!is_good) {
      free(ranges);
      return refuse_range(env, "ranges", "must hold whole numbers of bytes, each range from a multiple of leafBytes");
    }
  }
  *out = ranges;
  *count = length / 2;
  *bytes_sum = total;
  *leaf_sum = leaves;
  return true;
}
