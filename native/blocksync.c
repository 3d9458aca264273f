/* The Node-API face of the core: what src/native.ts calls. JavaScript values are checked here before any work starts; a job
 * (jobs.c) does it. What is refused: wrong types (TypeError), wrong sizes (RangeError). Argument order is NativeCore's. */
#define _GNU_SOURCE
#include <node_api.h>

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "arguments.h"
#include "core.h"
#include "jobs.h"

/* Counts changes of what is exported; src/native.ts expects the same number. */
#define CORE_VERSION 6

static napi_value digest_span(napi_env env, napi_callback_info info) {
  napi_value arg[MAX_ARGUMENTS];
  int fd, direct_fd, algorithm;
  uint64_t offset, length, block_bytes, leaf_bytes;
  uint8_t seed[SEED_BYTES];
  bytes leaves, blocks, zero_leaves, zero_blocks;
  if (!get_arguments(env, info, 12, arg) || !get_fd(env, arg[0], &fd) || !get_fd(env, arg[1], &direct_fd) ||
      !get_size(env, arg[2], "offset", &offset) || !get_size(env, arg[3], "length", &length) ||
      !get_size(env, arg[4], "blockBytes", &block_bytes) || !get_leaf_bytes(env, arg[5], &leaf_bytes) ||
      !get_algorithm(env, arg[6], arg[7], &algorithm, seed) || !get_bytes(env, arg[8], "leaves", &leaves) ||
      !get_bytes(env, arg[9], "blocks", &blocks) || !get_bytes(env, arg[10], "zeroLeaves", &zero_leaves) ||
      !get_bytes(env, arg[11], "zeroBlocks", &zero_blocks)) {
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
  if ((double)offset + (double)length > MAX_SAFE_INTEGER) {
    refuse_range(env, "offset + length", "is past the largest disk");
    return NULL;
  }
  range *span = malloc(sizeof *span);
  if (span == NULL) {
    napi_throw_error(env, "ENOMEM", "out of memory");
    return NULL;
  }
  *span = (range){offset, length};
  job *created = new_ranges_job(env, JOB_DIGEST, span, 1);
  if (created == NULL) return NULL;
  created->digest = (digest_request){.fd = fd, .direct_fd = direct_fd, .leaf_bytes = leaf_bytes, .block_bytes = block_bytes,
                                     .algorithm = algorithm, .leaves = leaves.data, .blocks = blocks.data,
                                     .zero_leaves = zero_leaves.data, .zero_blocks = zero_blocks.data};
  memcpy(created->digest.seed, seed, SEED_BYTES);
  return start_job(env, created, 4, arg + 8);
}

static napi_value read_digested(napi_env env, napi_callback_info info) {
  napi_value arg[MAX_ARGUMENTS];
  int fd, direct_fd, algorithm;
  uint64_t leaf_bytes, total, leaf_count;
  uint8_t seed[SEED_BYTES];
  bytes into, leaves, zero_leaves;
  range *ranges = NULL;
  size_t range_count = 0;
  if (!get_arguments(env, info, 9, arg) || !get_fd(env, arg[0], &fd) || !get_fd(env, arg[1], &direct_fd) ||
      !get_leaf_bytes(env, arg[3], &leaf_bytes) || !get_algorithm(env, arg[4], arg[5], &algorithm, seed) ||
      !get_bytes(env, arg[6], "into", &into) || !get_bytes(env, arg[7], "leaves", &leaves) ||
      !get_bytes(env, arg[8], "zeroLeaves", &zero_leaves) ||
      !copy_ranges(env, arg[2], leaf_bytes, &ranges, &range_count, &total, &leaf_count)) {
    return NULL;
  }
  if (into.length < total || leaves.length / DIGEST_BYTES < leaf_count || zero_leaves.length < leaf_count) {
    free(ranges);
    refuse_range(env, "into, leaves and zeroLeaves", "must have room for every byte and leaf of the ranges");
    return NULL;
  }
  job *created = new_ranges_job(env, JOB_DIGEST, ranges, range_count);
  if (created == NULL) return NULL;
  /* An empty array may have no memory at all; nothing is written through the pointer then. */
  static uint8_t nowhere;
  created->digest = (digest_request){.fd = fd, .direct_fd = direct_fd, .leaf_bytes = leaf_bytes, .algorithm = algorithm,
                                     .into = into.data != NULL ? into.data : &nowhere, .leaves = leaves.data,
                                     .zero_leaves = zero_leaves.data};
  memcpy(created->digest.seed, seed, SEED_BYTES);
  return start_job(env, created, 3, arg + 6);
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
  int fd, direct_fd;
  uint64_t total, leaf_count;
  bytes from, fresh;
  range *ranges = NULL;
  size_t range_count = 0;
  if (!get_arguments(env, info, 5, arg) || !get_fd(env, arg[0], &fd) || !get_fd(env, arg[1], &direct_fd) ||
      !get_bytes(env, arg[3], "from", &from) || !get_bytes(env, arg[4], "fresh", &fresh) ||
      !copy_ranges(env, arg[2], 1, &ranges, &range_count, &total, &leaf_count)) {
    return NULL;
  }
  if (from.length < total || (fresh.length > 0 && fresh.length < range_count)) {
    free(ranges);
    refuse_range(env, "from and fresh", "must hold every byte of the ranges, and a byte for each range or none");
    return NULL;
  }
  job *created = new_ranges_job(env, JOB_WRITE, ranges, range_count);
  if (created == NULL) return NULL;
  created->write = (write_request){.fd = fd, .direct_fd = direct_fd, .from = from.data,
                                   .fresh = fresh.length > 0 ? fresh.data : NULL};
  return start_job(env, created, 2, arg + 3);
}

/* The arguments that both ends of write-back begin with: fd, offset, length. */
static job *new_write_back_job(napi_env env, job_kind kind, const napi_value *arg) {
  int fd;
  uint64_t offset, length;
  if (!get_fd(env, arg[0], &fd) || !get_size(env, arg[1], "offset", &offset) || !get_size(env, arg[2], "length", &length)) return NULL;
  return new_range_job(env, kind, fd, offset, length);
}

static napi_value start_write_back(napi_env env, napi_callback_info info) {
  napi_value arg[MAX_ARGUMENTS];
  if (!get_arguments(env, info, 3, arg)) return NULL;
  job *created = new_write_back_job(env, JOB_START, arg);
  return created == NULL ? NULL : start_job(env, created, 0, NULL);
}

static napi_value finish_write_back(napi_env env, napi_callback_info info) {
  napi_value arg[MAX_ARGUMENTS];
  uint64_t total, leaf_count;
  if (!get_arguments(env, info, 4, arg)) return NULL;
  job *created = new_write_back_job(env, JOB_FINISH, arg);
  if (created == NULL) return NULL;
  if (!copy_ranges(env, arg[3], 1, &created->ranges, &created->range_count, &total, &leaf_count)) {
    free_job(env, created);
    return NULL;
  }
  return start_job(env, created, 0, NULL);
}

/* Rows of numbers about a range of a descriptor: fd, offset, length, out. */
static napi_value fill_rows(napi_env env, napi_callback_info info, job_kind kind, size_t numbers, const char *rule) {
  napi_value arg[MAX_ARGUMENTS];
  int fd;
  uint64_t offset, length;
  size_t count;
  double *rows;
  if (!get_arguments(env, info, 4, arg) || !get_fd(env, arg[0], &fd) || !get_size(env, arg[1], "offset", &offset) ||
      !get_size(env, arg[2], "length", &length) || !get_doubles(env, arg[3], "out", &count, &rows)) {
    return NULL;
  }
  if (count < numbers) {
    refuse_range(env, "out", rule);
    return NULL;
  }
  job *created = new_range_job(env, kind, fd, offset, length);
  if (created == NULL) return NULL;
  created->triples = rows;
  created->capacity = count / numbers;
  return start_job(env, created, 1, arg + 3);
}

static napi_value get_extents(napi_env env, napi_callback_info info) {
  return fill_rows(env, info, JOB_EXTENTS, 3, "must have room for one extent (three numbers)");
}

static napi_value get_extent_map(napi_env env, napi_callback_info info) {
  return fill_rows(env, info, JOB_MAP, EXTENT_MAP_NUMBERS, "must have room for one extent (four numbers)");
}

static napi_value get_open_descriptors(napi_env env, napi_callback_info info) {
  napi_value arg[MAX_ARGUMENTS];
  uint64_t slice, slices;
  size_t count;
  double *rows;
  if (!get_arguments(env, info, 3, arg) || !get_size(env, arg[0], "slice", &slice) ||
      !get_size(env, arg[1], "slices", &slices) || !get_doubles(env, arg[2], "out", &count, &rows)) {
    return NULL;
  }
  if (slice >= slices) {
    refuse_range(env, "slice", "must be less than slices");
    return NULL;
  }
  job *created = new_range_job(env, JOB_DESCRIPTORS, -1, slice, slices);
  if (created == NULL) return NULL;
  created->triples = rows;
  created->capacity = count / DESCRIPTOR_NUMBERS;
  return start_job(env, created, 1, arg + 2);
}

static napi_value zero_ranges(napi_env env, napi_callback_info info) {
  napi_value arg[MAX_ARGUMENTS];
  int fd;
  uint64_t total, leaf_count;
  range *ranges = NULL;
  size_t range_count = 0;
  if (!get_arguments(env, info, 2, arg) || !get_fd(env, arg[0], &fd) ||
      !copy_ranges(env, arg[1], 1, &ranges, &range_count, &total, &leaf_count)) {
    return NULL;
  }
  job *created = new_ranges_job(env, JOB_ZERO, ranges, range_count);
  if (created == NULL) return NULL;
  created->fd = fd;
  return start_job(env, created, 0, NULL);
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

static napi_value open_pipe(napi_env env, napi_callback_info info) {
  (void)info;
  napi_value result, read_fd, write_fd;
  int fds[2];
  failure failed = {0};
  pipe_open(fds, &failed);
  if (failed.err != 0) {
    napi_value error = make_error(env, &failed);
    if (error != NULL) napi_throw(env, error);
    return NULL;
  }
  if (napi_create_object(env, &result) != napi_ok || napi_create_int32(env, fds[0], &read_fd) != napi_ok ||
      napi_create_int32(env, fds[1], &write_fd) != napi_ok ||
      napi_set_named_property(env, result, "readFd", read_fd) != napi_ok ||
      napi_set_named_property(env, result, "writeFd", write_fd) != napi_ok) {
    close(fds[0]);
    close(fds[1]);
    return NULL;
  }
  return result;
}

static napi_value lock_disk(napi_env env, napi_callback_info info) {
  napi_value arg[MAX_ARGUMENTS], result;
  int fd;
  bool is_exclusive;
  failure failed = {0};
  if (!get_arguments(env, info, 2, arg) || !get_fd(env, arg[0], &fd)) return NULL;
  if (napi_get_value_bool(env, arg[1], &is_exclusive) != napi_ok) {
    napi_throw_type_error(env, "ERR_INVALID_ARG_TYPE", "isExclusive must be true or false");
    return NULL;
  }
  bool is_ours = disk_lock(fd, is_exclusive, &failed);
  if (failed.err != 0) {
    napi_value error = make_error(env, &failed);
    if (error != NULL) napi_throw(env, error);
    return NULL;
  }
  return napi_get_boolean(env, is_ours, &result) == napi_ok ? result : NULL;
}

static napi_value send_datagram(napi_env env, napi_callback_info info) {
  napi_value arg[MAX_ARGUMENTS], result;
  bytes address, data;
  failure failed = {0};
  if (!get_arguments(env, info, 2, arg) || !get_bytes(env, arg[0], "address", &address) ||
      !get_bytes(env, arg[1], "data", &data)) {
    return NULL;
  }
  datagram_send(address.data, address.length, data.data, data.length, &failed);
  if (failed.err != 0) {
    napi_value error = make_error(env, &failed);
    if (error != NULL) napi_throw(env, error);
    return NULL;
  }
  return napi_get_undefined(env, &result) == napi_ok ? result : NULL;
}

NAPI_MODULE_INIT() {
  static const struct {
    const char *name;
    napi_callback call;
  } functions[] = {
      {"digestSpan", digest_span}, {"readDigested", read_digested}, {"digestItems", digest_memory},
      {"writeRanges", write_ranges}, {"extents", get_extents}, {"zeroRanges", zero_ranges},
      {"startWriteBack", start_write_back}, {"finishWriteBack", finish_write_back},
      {"geometry", get_geometry}, {"dropCache", drop_cache}, {"openPipe", open_pipe},
      {"lock", lock_disk}, {"sendDatagram", send_datagram},
      {"openDescriptors", get_open_descriptors}, {"extentMap", get_extent_map},
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
