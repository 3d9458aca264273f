/* The Node-API face of the core: JavaScript values in, checked here before any work starts; promises out.
 * Work runs on libuv's pool and sees only its own job. What is refused: wrong types (TypeError), wrong sizes (RangeError). */
#define _GNU_SOURCE
#include <node_api.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "arguments.h"
#include "core.h"

/* Counts changes of what is exported; src/native.ts expects the same number. */
#define CORE_VERSION 1

typedef enum { JOB_DIGEST, JOB_WRITE, JOB_EXTENTS, JOB_ZERO, JOB_DROP_CACHE } job_kind;

/* One asynchronous call. `held` is an array of the JavaScript buffers that it uses; `ranges` is our own copy. */
typedef struct {
  job_kind kind;
  napi_async_work work;
  napi_deferred deferred;
  napi_ref held;
  digest_request digest;
  range *ranges;
  size_t range_count;
  const uint8_t *from;
  double *triples;
  size_t capacity;
  int fd;
  double result;
  failure failed;
} job;

static const char *errno_name(int err) {
  switch (err) {
#define NAME(value) case value: return #value
    NAME(EACCES); NAME(EAGAIN); NAME(EBADF); NAME(EBUSY); NAME(ECANCELED); NAME(EDQUOT); NAME(EFAULT); NAME(EFBIG);
    NAME(EINTR); NAME(EINVAL); NAME(EIO); NAME(EISDIR); NAME(ENODEV); NAME(ENOENT); NAME(ENOLINK); NAME(ENOMEM);
    NAME(ENOSPC); NAME(ENOSYS); NAME(ENOTTY); NAME(ENXIO); NAME(EOPNOTSUPP); NAME(EOVERFLOW); NAME(EPERM); NAME(EPIPE);
    NAME(EREMOTEIO); NAME(EROFS); NAME(ESPIPE); NAME(ESTALE); NAME(ETIMEDOUT); NAME(ETXTBSY); NAME(EBADE); NAME(EILSEQ);
    NAME(EUCLEAN); NAME(ENODATA); NAME(ENOMEDIUM); NAME(ENOLCK); NAME(ENETDOWN); NAME(EHOSTDOWN); NAME(ENOTCONN);
#undef NAME
    default: return "EUNKNOWN";
  }
}

/* --- jobs -------------------------------------------------------------------------------------------------------- */

static job *new_job(napi_env env, job_kind kind) {
  job *created = calloc(1, sizeof *created);
  if (created == NULL) napi_throw_error(env, "ENOMEM", "out of memory");
  else created->kind = kind;
  return created;
}

static void free_job(napi_env env, job *finished) {
  if (finished->held != NULL) napi_delete_reference(env, finished->held);
  if (finished->work != NULL) napi_delete_async_work(env, finished->work);
  free(finished->ranges);
  free(finished);
}

/* On the pool: no JavaScript value may be touched here. */
static void run_job(napi_env env, void *data) {
  (void)env;
  job *running = data;
  range first = running->range_count > 0 ? running->ranges[0] : (range){0, 0};
  switch (running->kind) {
    case JOB_DIGEST:
      running->digest.ranges = running->ranges;
      running->digest.range_count = running->range_count;
      running->result = (double)disk_digest(&running->digest, &running->failed);
      return;
    case JOB_WRITE: disk_write(running->fd, running->ranges, running->range_count, running->from, &running->failed); return;
    case JOB_EXTENTS:
      running->result = (double)disk_extents(running->fd, first, running->triples, running->capacity, &running->failed);
      return;
    case JOB_ZERO: disk_zero(running->fd, first, &running->failed); return;
    case JOB_DROP_CACHE: disk_drop_cache(running->fd, &running->failed); return;
  }
}

/* An Error with the same properties as those of node:fs, and `offset`. NULL where the environment is going away. */
static napi_value make_error(napi_env env, const failure *failed) {
  const char *name = errno_name(failed->err);
  char text[200];
  napi_value code, message, error, number, call;
  snprintf(text, sizeof text, "%s: %s failed at byte %llu (errno %d)", name, failed->call,
           (unsigned long long)failed->offset, failed->err);
  if (napi_create_string_utf8(env, name, NAPI_AUTO_LENGTH, &code) != napi_ok ||
      napi_create_string_utf8(env, text, NAPI_AUTO_LENGTH, &message) != napi_ok ||
      napi_create_error(env, code, message, &error) != napi_ok ||
      napi_create_double(env, (double)failed->offset, &number) != napi_ok ||
      napi_set_named_property(env, error, "offset", number) != napi_ok ||
      napi_create_int32(env, -failed->err, &number) != napi_ok ||
      napi_set_named_property(env, error, "errno", number) != napi_ok ||
      napi_create_string_utf8(env, failed->call, NAPI_AUTO_LENGTH, &call) != napi_ok ||
      napi_set_named_property(env, error, "syscall", call) != napi_ok) {
    return NULL;
  }
  return error;
}

/* Back on the JavaScript thread. In a worker that is being terminated every call here may fail: then nobody listens. */
static void settle_job(napi_env env, napi_status status, void *data) {
  job *finished = data;
  napi_value value = NULL;
  if (status != napi_ok && finished->failed.err == 0) finished->failed = (failure){ECANCELED, "pool", 0};
  if (finished->failed.err != 0) {
    value = make_error(env, &finished->failed);
    if (value != NULL) napi_reject_deferred(env, finished->deferred, value);
  } else {
    bool has_result = finished->kind == JOB_DIGEST || finished->kind == JOB_EXTENTS;
    status = has_result ? napi_create_double(env, finished->result, &value) : napi_get_undefined(env, &value);
    if (status == napi_ok) napi_resolve_deferred(env, finished->deferred, value);
  }
  free_job(env, finished);
}

/* Queues the job with its buffers held and returns its promise; frees it and throws where that fails. */
static napi_value start_job(napi_env env, job *started, size_t held_count, const napi_value *held) {
  napi_value promise, name, array;
  bool is_ready = napi_create_array_with_length(env, held_count, &array) == napi_ok;
  for (size_t index = 0; is_ready && index < held_count; index++) {
    is_ready = napi_set_element(env, array, (uint32_t)index, held[index]) == napi_ok;
  }
  is_ready = is_ready && napi_create_reference(env, array, 1, &started->held) == napi_ok &&
             napi_create_string_utf8(env, "blocksync", NAPI_AUTO_LENGTH, &name) == napi_ok &&
             napi_create_async_work(env, NULL, name, run_job, settle_job, started, &started->work) == napi_ok &&
             napi_create_promise(env, &started->deferred, &promise) == napi_ok &&
             napi_queue_async_work(env, started->work) == napi_ok;
  if (is_ready) return promise;
  free_job(env, started);
  napi_throw_error(env, "ERR_INTERNAL", "the work could not be queued");
  return NULL;
}

/* Allocates a job over one range; NULL with an exception pending. */
static job *new_range_job(napi_env env, job_kind kind, int fd, uint64_t offset, uint64_t length) {
  if ((double)offset + (double)length > MAX_SAFE_INTEGER) {
    refuse_range(env, "offset + length", "is past the largest disk");
    return NULL;
  }
  job *created = new_job(env, kind);
  if (created == NULL) return NULL;
  created->fd = fd;
  created->ranges = malloc(sizeof *created->ranges);
  if (created->ranges == NULL) {
    free_job(env, created);
    napi_throw_error(env, "ENOMEM", "out of memory");
    return NULL;
  }
  created->ranges[0] = (range){offset, length};
  created->range_count = 1;
  return created;
}

/* --- exports: argument order is NativeCore's in src/native.ts ------------------------------------------------------ */

static napi_value digest_span(napi_env env, napi_callback_info info) {
  napi_value arg[MAX_ARGUMENTS];
  int fd, algorithm;
  uint64_t offset, length, block_bytes, leaf_bytes;
  uint8_t seed[SEED_BYTES];
  bytes leaves, blocks, zero_leaves, zero_blocks;
  if (!get_arguments(env, info, 11, arg) || !get_fd(env, arg[0], &fd) || !get_size(env, arg[1], "offset", &offset) ||
      !get_size(env, arg[2], "length", &length) || !get_size(env, arg[3], "blockBytes", &block_bytes) ||
      !get_leaf_bytes(env, arg[4], &leaf_bytes) || !get_algorithm(env, arg[5], arg[6], &algorithm, seed) ||
      !get_bytes(env, arg[7], "leaves", &leaves) || !get_bytes(env, arg[8], "blocks", &blocks) ||
      !get_bytes(env, arg[9], "zeroLeaves", &zero_leaves) || !get_bytes(env, arg[10], "zeroBlocks", &zero_blocks)) {
    return NULL;
  }
  if (block_bytes == 0 || block_bytes % leaf_bytes != 0) {
    refuse_range(env, "blockBytes", "must be a multiple of leafBytes");
    return NULL;
  }
  if (offset % block_bytes != 0) {
    refuse_range(env, "offset", "must be a multiple of blockBytes");
    return NULL;
  }
  uint64_t leaf_count = divide_up(length, leaf_bytes);
  uint64_t block_count = divide_up(length, block_bytes);
  if (leaves.length / DIGEST_BYTES < leaf_count || zero_leaves.length < leaf_count ||
      blocks.length / DIGEST_BYTES < block_count || zero_blocks.length < block_count) {
    refuse_range(env, "leaves, blocks, zeroLeaves and zeroBlocks", "must have room for every leaf and block of the range");
    return NULL;
  }
  job *created = new_range_job(env, JOB_DIGEST, fd, offset, length);
  if (created == NULL) return NULL;
  created->digest = (digest_request){.fd = fd, .leaf_bytes = leaf_bytes, .block_bytes = block_bytes, .algorithm = algorithm,
                                     .leaves = leaves.data, .blocks = blocks.data, .zero_leaves = zero_leaves.data,
                                     .zero_blocks = zero_blocks.data};
  memcpy(created->digest.seed, seed, SEED_BYTES);
  return start_job(env, created, 4, arg + 7);
}

static napi_value read_digested(napi_env env, napi_callback_info info) {
  napi_value arg[MAX_ARGUMENTS];
  int fd, algorithm;
  uint64_t leaf_bytes, total, leaf_count;
  uint8_t seed[SEED_BYTES];
  bytes into, leaves, zero_leaves;
  range *ranges = NULL;
  size_t range_count = 0;
  if (!get_arguments(env, info, 8, arg) || !get_fd(env, arg[0], &fd) || !get_leaf_bytes(env, arg[2], &leaf_bytes) ||
      !get_algorithm(env, arg[3], arg[4], &algorithm, seed) || !get_bytes(env, arg[5], "into", &into) ||
      !get_bytes(env, arg[6], "leaves", &leaves) || !get_bytes(env, arg[7], "zeroLeaves", &zero_leaves) ||
      !copy_ranges(env, arg[1], leaf_bytes, &ranges, &range_count, &total, &leaf_count)) {
    return NULL;
  }
  job *created = NULL;
  if (into.length < total || leaves.length / DIGEST_BYTES < leaf_count || zero_leaves.length < leaf_count) {
    refuse_range(env, "into, leaves and zeroLeaves", "must have room for every byte and leaf of the ranges");
  } else {
    created = new_job(env, JOB_DIGEST);
  }
  if (created == NULL) {
    free(ranges);
    return NULL;
  }
  created->ranges = ranges;
  created->range_count = range_count;
  /* An empty array may have no memory at all; nothing is written through the pointer then. */
  static uint8_t nowhere;
  created->digest = (digest_request){.fd = fd, .leaf_bytes = leaf_bytes, .algorithm = algorithm,
                                     .into = into.data != NULL ? into.data : &nowhere, .leaves = leaves.data,
                                     .zero_leaves = zero_leaves.data};
  memcpy(created->digest.seed, seed, SEED_BYTES);
  return start_job(env, created, 3, arg + 5);
}

static napi_value digest_memory(napi_env env, napi_callback_info info) {
  napi_value arg[MAX_ARGUMENTS];
  int algorithm;
  uint64_t item_bytes;
  uint8_t seed[SEED_BYTES];
  bytes data, out;
  if (!get_arguments(env, info, 5, arg) || !get_algorithm(env, arg[0], arg[1], &algorithm, seed) ||
      !get_bytes(env, arg[2], "data", &data) || !get_size(env, arg[3], "itemBytes", &item_bytes) ||
      !get_bytes(env, arg[4], "out", &out)) {
    return NULL;
  }
  if (item_bytes == 0) {
    refuse_range(env, "itemBytes", "must be at least 1");
  } else if (out.length / DIGEST_BYTES < divide_up(data.length, item_bytes)) {
    refuse_range(env, "out", "must have room for the digest of every item");
  } else {
    digest_state state;
    digest_begin(&state, algorithm, seed);
    digest_items(&state, data.data, data.length, item_bytes, out.data);
  }
  return NULL;
}

static napi_value write_ranges(napi_env env, napi_callback_info info) {
  napi_value arg[MAX_ARGUMENTS];
  int fd;
  uint64_t total, leaf_count;
  bytes from;
  range *ranges = NULL;
  size_t range_count = 0;
  if (!get_arguments(env, info, 3, arg) || !get_fd(env, arg[0], &fd) || !get_bytes(env, arg[2], "from", &from) ||
      !copy_ranges(env, arg[1], 1, &ranges, &range_count, &total, &leaf_count)) {
    return NULL;
  }
  job *created = NULL;
  if (from.length < total) refuse_range(env, "from", "must hold every byte of the ranges");
  else created = new_job(env, JOB_WRITE);
  if (created == NULL) {
    free(ranges);
    return NULL;
  }
  created->fd = fd;
  created->ranges = ranges;
  created->range_count = range_count;
  created->from = from.data;
  return start_job(env, created, 1, arg + 2);
}

static napi_value get_extents(napi_env env, napi_callback_info info) {
  napi_value arg[MAX_ARGUMENTS];
  int fd;
  uint64_t offset, length;
  size_t count;
  double *triples;
  if (!get_arguments(env, info, 4, arg) || !get_fd(env, arg[0], &fd) || !get_size(env, arg[1], "offset", &offset) ||
      !get_size(env, arg[2], "length", &length) || !get_doubles(env, arg[3], "out", &count, &triples)) {
    return NULL;
  }
  if (count < 3) {
    refuse_range(env, "out", "must have room for one extent (three numbers)");
    return NULL;
  }
  job *created = new_range_job(env, JOB_EXTENTS, fd, offset, length);
  if (created == NULL) return NULL;
  created->triples = triples;
  created->capacity = count / 3;
  return start_job(env, created, 1, arg + 3);
}

static napi_value zero_range(napi_env env, napi_callback_info info) {
  napi_value arg[MAX_ARGUMENTS];
  int fd;
  uint64_t offset, length;
  if (!get_arguments(env, info, 3, arg) || !get_fd(env, arg[0], &fd) || !get_size(env, arg[1], "offset", &offset) ||
      !get_size(env, arg[2], "length", &length)) {
    return NULL;
  }
  job *created = new_range_job(env, JOB_ZERO, fd, offset, length);
  return created == NULL ? NULL : start_job(env, created, 0, NULL);
}

static napi_value drop_cache(napi_env env, napi_callback_info info) {
  napi_value arg[MAX_ARGUMENTS];
  int fd;
  if (!get_arguments(env, info, 1, arg) || !get_fd(env, arg[0], &fd)) return NULL;
  job *created = new_range_job(env, JOB_DROP_CACHE, fd, 0, 0);
  return created == NULL ? NULL : start_job(env, created, 0, NULL);
}

static napi_value get_geometry(napi_env env, napi_callback_info info) {
  napi_value arg[MAX_ARGUMENTS], result, size, logical, physical, is_device;
  int fd;
  disk_geometry geometry = {0};
  failure failed = {0};
  if (!get_arguments(env, info, 1, arg) || !get_fd(env, arg[0], &fd)) return NULL;
  disk_geometry_of(fd, &geometry, &failed);
  if (failed.err != 0) {
    napi_value error = make_error(env, &failed);
    if (error != NULL) napi_throw(env, error);
    return NULL;
  }
  if (napi_create_object(env, &result) != napi_ok ||
      napi_create_double(env, (double)geometry.size_bytes, &size) != napi_ok ||
      napi_create_uint32(env, geometry.logical_sector_bytes, &logical) != napi_ok ||
      napi_create_uint32(env, geometry.physical_sector_bytes, &physical) != napi_ok ||
      napi_get_boolean(env, geometry.is_block_device, &is_device) != napi_ok ||
      napi_set_named_property(env, result, "sizeBytes", size) != napi_ok ||
      napi_set_named_property(env, result, "logicalSectorBytes", logical) != napi_ok ||
      napi_set_named_property(env, result, "physicalSectorBytes", physical) != napi_ok ||
      napi_set_named_property(env, result, "isBlockDevice", is_device) != napi_ok) {
    return NULL;
  }
  return result;
}

NAPI_MODULE_INIT() {
  static const struct {
    const char *name;
    napi_callback call;
  } functions[] = {
      {"digestSpan", digest_span}, {"readDigested", read_digested}, {"digestItems", digest_memory},
      {"writeRanges", write_ranges}, {"extents", get_extents}, {"zeroRange", zero_range},
      {"geometry", get_geometry}, {"dropCache", drop_cache},
  };
  napi_value value;
  for (size_t index = 0; index < sizeof functions / sizeof functions[0]; index++) {
    if (napi_create_function(env, functions[index].name, NAPI_AUTO_LENGTH, functions[index].call, NULL, &value) != napi_ok ||
        napi_set_named_property(env, exports, functions[index].name, value) != napi_ok) {
      return NULL;
    }
  }
  if (napi_create_uint32(env, CORE_VERSION, &value) != napi_ok || napi_set_named_property(env, exports, "version", value) != napi_ok ||
      napi_create_string_utf8(env, digest_simd(), NAPI_AUTO_LENGTH, &value) != napi_ok ||
      napi_set_named_property(env, exports, "simd", value) != napi_ok) {
    return NULL;
  }
  return exports;
}
