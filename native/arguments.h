/* Checked arguments of the Node-API functions. Each `get_` fills its output, or leaves an exception pending and returns false. */
#ifndef BLOCKSYNC_ARGUMENTS_H
#define BLOCKSYNC_ARGUMENTS_H

#include <node_api.h>

#include "core.h"

#define MAX_ARGUMENTS 12
#define MAX_SAFE_INTEGER 9007199254740991.0

typedef struct {
  uint8_t *data;
  size_t length;
} bytes;

/* Leaves a RangeError pending; always false. */
bool refuse_range(napi_env env, const char *name, const char *rule);

bool get_arguments(napi_env env, napi_callback_info info, size_t count, napi_value *values);
bool get_size(napi_env env, napi_value value, const char *name, uint64_t *out);
bool get_fd(napi_env env, napi_value value, int *out);
bool get_bytes(napi_env env, napi_value value, const char *name, bytes *out);
bool get_doubles(napi_env env, napi_value value, const char *name, size_t *length, double **out);
bool get_leaf_bytes(napi_env env, napi_value value, uint64_t *out);
bool get_algorithm(napi_env env, napi_value algorithm, napi_value seed, int *out, uint8_t out_seed[SEED_BYTES]);

/* Pairs (offset, length) as a copy that the caller frees, with the sums of their bytes and leaves. */
bool copy_ranges(napi_env env, napi_value value, uint64_t leaf_bytes, range **out, size_t *count, uint64_t *bytes_sum,
                 uint64_t *leaf_sum);

uint64_t divide_up(uint64_t length, uint64_t unit);

#endif
