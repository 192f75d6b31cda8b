/* A disk that is full while the file named by FULL_DISK exists: for LD_PRELOAD. Only files named *.db* are on it. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static int is_full(int fd) {
    const char *file = getenv("FULL_DISK");
    char link[64], path[4096];
    if (!file || access(file, F_OK) != 0) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0) return 0;
    path[length] = 0;
    return strstr(path, ".db") && !strstr(path, "-shm");
}

#define OR_FULL(call) \
    if (is_full(fd)) { errno = ENOSPC; return -1; } \
    return call

ssize_t write(int fd, const void *data, size_t size) { OR_FULL(syscall(SYS_write, fd, data, size)); }
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) { OR_FULL(syscall(SYS_pwrite64, fd, data, size, at)); }
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) { OR_FULL(syscall(SYS_pwrite64, fd, data, size, at)); }
int ftruncate(int fd, off_t size) { OR_FULL((int)syscall(SYS_ftruncate, fd, size)); }
int ftruncate64(int fd, off64_t size) { OR_FULL((int)syscall(SYS_ftruncate, fd, size)); }
