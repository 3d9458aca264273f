/* A job: one asynchronous call of the core and its promise. Who makes one fills in what its kind needs, then starts it. */
#ifndef BLOCKSYNC_JOBS_H
#define BLOCKSYNC_JOBS_H

#include <node_api.h>

#include "core.h"

typedef enum { JOB_DIGEST, JOB_WRITE, JOB_START, JOB_FINISH, JOB_EXTENTS, JOB_MAP, JOB_ZERO, JOB_DROP_CACHE, JOB_DESCRIPTORS } job_kind;

/* One asynchronous call. `held` is an array of the JavaScript buffers that it uses; `ranges` is our own copy. */
typedef struct {
  job_kind kind;
  napi_async_work work;
  napi_deferred deferred;
  napi_ref held;
  digest_request digest;
  write_request write;
  range *ranges;
  size_t range_count;
  range within;
  double *triples;
  size_t capacity;
  int fd;
  read_count read;
  write_count written;
  size_t extent_count;
  failure failed;
} job;

/* A job over one range of a descriptor; NULL with an exception pending. */
job *new_range_job(napi_env env, job_kind kind, int fd, uint64_t offset, uint64_t length);

/* A job over ranges that it frees; NULL with an exception pending, and then `ranges` are freed already. */
job *new_ranges_job(napi_env env, job_kind kind, range *ranges, size_t range_count);

/* Queues the job with its buffers held and returns its promise; frees it and throws where that fails. */
napi_value start_job(napi_env env, job *started, size_t held_count, const napi_value *held);

/* For a job that was not started. */
void free_job(napi_env env, job *finished);

/* An Error with the same properties as those of node:fs, and `offset`. NULL where the environment is going away. */
napi_value make_error(napi_env env, const failure *failed);

#endif
