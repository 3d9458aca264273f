/* Asynchronous work: a job goes to libuv's pool, sees only itself there, and settles its promise back on the JavaScript
 * thread. What the caller checked (blocksync.c) is not checked again. */
#define _GNU_SOURCE
#include "jobs.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "arguments.h"

static const char *errno_name(int err) {
  switch (err) {
#define NAME(value) case value: return #value
    NAME(EACCES); NAME(EAGAIN); NAME(EBADF); NAME(EBUSY); NAME(ECANCELED); NAME(EDQUOT); NAME(EFAULT); NAME(EFBIG);
    NAME(EINTR); NAME(EINVAL); NAME(EIO); NAME(EISDIR); NAME(ENODEV); NAME(ENOENT); NAME(ENOLINK); NAME(ENOMEM);
    NAME(ENOSPC); NAME(ENOSYS); NAME(ENOTTY); NAME(ENXIO); NAME(EOPNOTSUPP); NAME(EOVERFLOW); NAME(EPERM); NAME(EPIPE);
    NAME(EREMOTEIO); NAME(EROFS); NAME(ESPIPE); NAME(ESTALE); NAME(ETIMEDOUT); NAME(ETXTBSY); NAME(EBADE); NAME(EILSEQ);
    NAME(EUCLEAN); NAME(ENODATA); NAME(ENOMEDIUM); NAME(ENOLCK); NAME(EMFILE); NAME(ENFILE); NAME(ENETDOWN); NAME(EHOSTDOWN); NAME(ENOTCONN);
    NAME(ECONNREFUSED); NAME(ENAMETOOLONG); NAME(ENOTSOCK); NAME(EPROTOTYPE); NAME(EMSGSIZE); NAME(ENOBUFS); NAME(ENOTDIR); NAME(ELOOP);
#undef NAME
    default: return "EUNKNOWN";
  }
}

static job *new_job(napi_env env, job_kind kind) {
  job *created = calloc(1, sizeof *created);
  if (created == NULL) napi_throw_error(env, "ENOMEM", "out of memory");
  else created->kind = kind;
  return created;
}

void free_job(napi_env env, job *finished) {
  if (finished->held != NULL) napi_delete_reference(env, finished->held);
  if (finished->work != NULL) napi_delete_async_work(env, finished->work);
  free(finished->ranges);
  free(finished);
}

/* On the pool: no JavaScript value may be touched here. */
static void run_job(napi_env env, void *data) {
  (void)env;
  job *running = data;
  switch (running->kind) {
    case JOB_DIGEST:
      running->digest.ranges = running->ranges;
      running->digest.range_count = running->range_count;
      running->read = disk_digest(&running->digest, &running->failed);
      return;
    case JOB_WRITE:
      running->write.ranges = running->ranges;
      running->write.range_count = running->range_count;
      running->written = disk_write(&running->write, &running->failed);
      return;
    case JOB_START: disk_start_write_back(running->fd, running->within, &running->failed); return;
    case JOB_FINISH:
      disk_finish_write_back(running->fd, running->within, running->ranges, running->range_count, &running->failed);
      return;
    case JOB_EXTENTS:
      running->extent_count = disk_extents(running->fd, running->within, running->triples, running->capacity, &running->failed);
      return;
    case JOB_MAP:
      running->extent_count = disk_extent_map(running->fd, running->within, running->triples, running->capacity, &running->failed);
      return;
    case JOB_ZERO: disk_zero(running->fd, running->ranges, running->range_count, &running->failed); return;
    case JOB_DROP_CACHE: disk_drop_cache(running->fd, &running->failed); return;
    case JOB_DESCRIPTORS:
      running->extent_count = open_descriptors((size_t)running->within.offset, (size_t)running->within.length, running->triples,
                                               running->capacity, &running->failed);
      return;
  }
}

napi_value make_error(napi_env env, const failure *failed) {
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

/* {names[0]: first, names[1]: second}, or NULL. */
static napi_value make_pair(napi_env env, const char *const names[2], napi_value first, napi_value second) {
  napi_value pair;
  bool is_made = napi_create_object(env, &pair) == napi_ok && napi_set_named_property(env, pair, names[0], first) == napi_ok &&
                 napi_set_named_property(env, pair, names[1], second) == napi_ok;
  return is_made ? pair : NULL;
}

/* What the promise of a job that did not fail resolves with; NULL where the environment is going away. */
static napi_value make_result(napi_env env, const job *finished) {
  static const char *const read_names[2] = {"bytes", "coldBytes"};
  static const char *const write_names[2] = {"bufferedBytes", "isDirectRefused"};
  napi_value first = NULL, second = NULL;
  bool is_made;
  switch (finished->kind) {
    case JOB_DIGEST:
      is_made = napi_create_double(env, (double)finished->read.bytes, &first) == napi_ok &&
                napi_create_double(env, (double)finished->read.cold_bytes, &second) == napi_ok;
      return is_made ? make_pair(env, read_names, first, second) : NULL;
    case JOB_WRITE:
      is_made = napi_create_double(env, (double)finished->written.buffered_bytes, &first) == napi_ok &&
                napi_get_boolean(env, finished->written.is_direct_refused, &second) == napi_ok;
      return is_made ? make_pair(env, write_names, first, second) : NULL;
    case JOB_DESCRIPTORS:
    case JOB_MAP:
    case JOB_EXTENTS: return napi_create_double(env, (double)finished->extent_count, &first) == napi_ok ? first : NULL;
    case JOB_START:
    case JOB_FINISH:
    case JOB_ZERO:
    case JOB_DROP_CACHE: return napi_get_undefined(env, &first) == napi_ok ? first : NULL;
  }
  return NULL;
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
    value = make_result(env, finished);
    if (value != NULL) napi_resolve_deferred(env, finished->deferred, value);
  }
  free_job(env, finished);
}

napi_value start_job(napi_env env, job *started, size_t held_count, const napi_value *held) {
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

job *new_range_job(napi_env env, job_kind kind, int fd, uint64_t offset, uint64_t length) {
  if ((double)offset + (double)length > MAX_SAFE_INTEGER) {
    refuse_range(env, "offset + length", "is past the largest disk");
    return NULL;
  }
  job *created = new_job(env, kind);
  if (created == NULL) return NULL;
  created->fd = fd;
  created->within = (range){offset, length};
  return created;
}

job *new_ranges_job(napi_env env, job_kind kind, range *ranges, size_t range_count) {
  job *created = new_job(env, kind);
  if (created == NULL) {
    free(ranges);
    return NULL;
  }
  created->ranges = ranges;
  created->range_count = range_count;
  return created;
}
