/* A static program for container tests: its first argument says what it does. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static void put(int fd, const char *data, size_t size) {
    while (size > 0) {
        ssize_t written = write(fd, data, size);
        if (written < 0) exit(99);
        data += written;
        size -= written;
    }
}

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "exit";
    char buffer[65536];
    if (!strcmp(what, "exit")) return argc > 2 ? atoi(argv[2]) : 0;
    if (!strcmp(what, "streams")) {
        put(1, "to stdout\n", 10);
        put(2, "to stderr\n", 10);
        put(1, "no newline", 10);
        return 0;
    }
    if (!strcmp(what, "cat")) {
        ssize_t got;
        while ((got = read(0, buffer, sizeof buffer)) > 0) put(1, buffer, got);
        put(2, "eof\n", 4);
        return got < 0 ? 98 : 5;
    }
    if (!strcmp(what, "fill")) {
        for (int i = 0; i < atoi(argv[2]); i++) {
            int size = sprintf(buffer, "%08d\n", i);
            put(1, buffer, size);
        }
        return 0;
    }
    if (!strcmp(what, "signal")) { raise(atoi(argv[2])); return 97; }
    if (!strcmp(what, "pause")) {
        signal(SIGTERM, SIG_DFL);
        put(1, "ready\n", 6);
        for (;;) pause();
    }
    if (!strcmp(what, "term")) {
        sigset_t set;
        int number;
        sigemptyset(&set);
        sigaddset(&set, SIGTERM);
        sigprocmask(SIG_BLOCK, &set, NULL);
        put(1, "ready\n", 6);
        sigwait(&set, &number);
        put(1, "goodbye", 7);
        return 42;
    }
    if (!strcmp(what, "winsize")) {
        struct winsize size;
        read(0, buffer, 1);
        do { /* the size comes on another way than the input */
            if (ioctl(0, TIOCGWINSZ, &size)) return 96;
        } while (size.ws_row == 0 && !usleep(1000));
        printf("%d %d %d\n", size.ws_row, size.ws_col, isatty(1));
        return 0;
    }
    if (!strcmp(what, "hog")) {
        for (;;) {
            char *memory = malloc(1 << 20);
            if (!memory) return 95;
            memset(memory, 1, 1 << 20);
        }
    }
    if (!strcmp(what, "file")) {
        int fd = open(argv[2], O_RDONLY);
        ssize_t got;
        if (fd < 0) { perror(argv[2]); return 94; }
        while ((got = read(fd, buffer, sizeof buffer)) > 0) put(1, buffer, got);
        return 0;
    }
    if (!strcmp(what, "env")) {
        for (char **entry = environ; *entry; entry++) puts(*entry);
        return 0;
    }
    return 93;
}
