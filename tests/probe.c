/* A container's only program, for what busybox cannot show. Usage: probe exit N | fault | ignore | syscall NAME | path P */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

static int outcome(const char *name, long result) {
    printf("%s: %s\n", name, result < 0 ? strerror(errno) : "allowed");
    return result < 0 ? 0 : 3;
}

static int call(const char *name) {
    if (!strcmp(name, "keyctl"))
        return outcome(name, syscall(SYS_keyctl, 0, -3, 0));
    if (!strcmp(name, "userfaultfd"))
        return outcome(name, syscall(SYS_userfaultfd, 0));
    if (!strcmp(name, "bpf"))
        return outcome(name, syscall(SYS_bpf, 0, 0, 0));
    if (!strcmp(name, "mount"))
        return outcome(name, mount("none", "/", "tmpfs", 0, ""));
    if (!strcmp(name, "getpid"))
        return outcome(name, syscall(SYS_getpid));
    return 2;
}

int main(int argc, char **argv) {
    if (argc < 2)
        return 2;
    setvbuf(stdout, NULL, _IONBF, 0);
    if (!strcmp(argv[1], "exit") && argc == 3)
        return atoi(argv[2]);
    if (!strcmp(argv[1], "fault")) {
        volatile int *nowhere = NULL;
        *nowhere = 1;
    }
    if (!strcmp(argv[1], "ignore")) {
        signal(SIGTERM, SIG_IGN);
        puts("ready");
        for (;;)
            pause();
    }
    if (!strcmp(argv[1], "syscall") && argc == 3)
        return call(argv[2]);
    if (!strcmp(argv[1], "path") && argc == 3)
        return outcome(argv[2], open(argv[2], O_RDONLY));
    return 2;
}
