/* Which files and block devices processes have open: /proc/PID/fd in, rows of numbers out. Processes that end meanwhile, or
 * that are not ours to look into, have none. */
#define _GNU_SOURCE /* O_DIRECTORY */
#include "core.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

/* '/proc/', ten digits, '/fd' and the end. */
#define PATH_BYTES 32

/* The kernel's own fstatat, for the reason that stat_of has. */
static int stat_at(int directory, const char *name, struct stat *facts) {
#if defined(__x86_64__) || defined(__aarch64__)
  return (int)syscall(SYS_newfstatat, directory, name, facts, 0);
#else
  return fstatat(directory, name, facts, 0);
#endif
}

/* The number that a name is, or -1. */
static long number_of(const char *name) {
  char *end;
  if (name[0] < '0' || name[0] > '9') return -1;
  long number = strtol(name, &end, 10);
  return *end == '\0' ? number : -1;
}

/* Rows of one process, from row `count` on; the number of rows there are then, also beyond what has room. */
static size_t process_rows(long pid, double *rows, size_t capacity, size_t count) {
  char path[PATH_BYTES];
  snprintf(path, sizeof path, "/proc/%ld/fd", pid);
  int directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (directory < 0) return count;
  DIR *entries = fdopendir(directory);
  if (entries == NULL) {
    close(directory);
    return count;
  }
  for (struct dirent *entry = readdir(entries); entry != NULL; entry = readdir(entries)) {
    struct stat facts;
    long fd = number_of(entry->d_name);
    if (fd < 0 || stat_at(directory, entry->d_name, &facts) != 0) continue;
    bool is_block = S_ISBLK(facts.st_mode);
    if (!is_block && !S_ISREG(facts.st_mode)) continue;
    if (count < capacity) {
      double *row = rows + count * DESCRIPTOR_NUMBERS;
      row[0] = (double)pid;
      row[1] = (double)fd;
      row[2] = is_block ? 1 : 0;
      row[3] = (double)(is_block ? facts.st_rdev : facts.st_dev);
      row[4] = is_block ? 0 : (double)facts.st_ino;
    }
    count++;
  }
  closedir(entries);
  return count;
}

size_t open_descriptors(size_t slice, size_t slices, double *rows, size_t capacity, failure *failed) {
  DIR *processes = opendir("/proc");
  size_t count = 0;
  if (processes == NULL) {
    fail(failed, errno, "opendir", 0);
    return 0;
  }
  long own = (long)getpid();
  for (struct dirent *entry = readdir(processes); entry != NULL; entry = readdir(processes)) {
    long pid = number_of(entry->d_name);
    /* By number, not by place: processes come and go between the slices' readings, and none may fall between two. */
    if (pid < 0 || (size_t)pid % slices != slice || pid == own) continue;
    count = process_rows(pid, rows, capacity, count);
  }
  closedir(processes);
  return count;
}
