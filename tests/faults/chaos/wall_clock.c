/* Preloaded, it makes the wall clock jump: every look at it is a day later or a day earlier. */
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *now) {
    static int looks = 0;
    int failed = (int)syscall(SYS_clock_gettime, clock, now);
    if (!failed && clock == CLOCK_REALTIME)
        now->tv_sec += (looks++ % 2 ? 1 : -1) * 86400;
    return failed;
}
