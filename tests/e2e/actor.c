// One program under many names: it plays one process of a scenario, as a plan file tells (written by player.py).
//
// A plan has one line per process, its fields parted by \x1f:  number file flags argc argv... deed...
// A deed is  SECONDS:KIND[:WHAT]  with KIND child, fork or exec (WHAT is the number of a process), read, write (a path),
// link (a path), conn, try, plug, listen (IP:PORT), exit or wait. Flags: t a terminal of its own, s setsid, d double fork, p a new PID namespace,
// c the cgroups of the container. A line break inside an argument is written as \x1e.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PROCESSES = 256, FIELDS = 400, PLAN = 1 << 20 };

struct process {
    char *file, *flags, **argv, **deeds;
    int deed_count;
};

static struct process plan[PROCESSES];
static double begin;

static void wait_until(double seconds) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    double left = begin + seconds - ((double)now.tv_sec + (double)now.tv_nsec / 1e9);
    if (left <= 0) return;
    struct timespec rest = {(time_t)left, (long)((left - (double)(time_t)left) * 1e9)};
    while (nanosleep(&rest, &rest) && errno == EINTR) {}
}

static void read_line(char *line) {
    char *fields[FIELDS];
    int count = 0;
    for (char *next; line && count < FIELDS; line = next) {
        next = strchr(line, '\x1f');
        if (next) *next++ = 0;
        fields[count++] = line;
    }
    int argc = atoi(fields[3]);
    struct process *process = &plan[atoi(fields[0])];
    process->file = fields[1];
    process->flags = fields[2];
    process->argv = calloc((size_t)argc + 1, sizeof(char *));
    for (int i = 0; i < argc; i++) {
        process->argv[i] = fields[4 + i];
        for (char *c = process->argv[i]; *c; c++)
            if (*c == '\x1e') *c = '\n';
    }
    process->deed_count = count - 4 - argc;
    process->deeds = calloc((size_t)process->deed_count + 1, sizeof(char *));
    memcpy(process->deeds, fields + 4 + argc, (size_t)process->deed_count * sizeof(char *));
}

static int read_plan(const char *path) {
    FILE *file = fopen(path, "r");
    if (!file) return 0;
    char *text = malloc(PLAN);
    text[fread(text, 1, PLAN - 1, file)] = 0;
    fclose(file);
    for (char *line = text, *end; (end = strchr(line, '\n')); line = end + 1) {
        *end = 0;
        read_line(line);
    }
    return 1;
}

static int has(const struct process *process, char flag) { return strchr(process->flags, flag) != NULL; }

static void join_cgroups(void) {
    char *all = strdup(getenv("ACTOR_CGROUPS") ? getenv("ACTOR_CGROUPS") : ""), path[512];
    for (char *folder = strtok(all, ":"); folder; folder = strtok(NULL, ":")) {
        snprintf(path, sizeof path, "%s/cgroup.procs", folder);
        int file = open(path, O_WRONLY);
        if (file < 0) continue;
        if (write(file, "0", 1) < 0) perror(path);
        close(file);
    }
}

static void take_terminal(const char *name) {
    int terminal = open(name, O_RDWR);
    if (terminal < 0) return;
    ioctl(terminal, TIOCSCTTY, 0);
    for (int i = 0; i < 3; i++) dup2(terminal, i);
}

static void become(int number) {
    char text[16];
    snprintf(text, sizeof text, "%d", number);
    setenv("ACTOR_NODE", text, 1);
    execv(plan[number].file, plan[number].argv);
    perror(plan[number].file);
    _exit(127);
}

static void start_child(int number) {
    const struct process *child = &plan[number];
    char terminal[64] = "";
    if (has(child, 't')) {
        int master = posix_openpt(O_RDWR | O_NOCTTY);
        if (master >= 0 && !grantpt(master) && !unlockpt(master)) ptsname_r(master, terminal, sizeof terminal);
    }
    if (has(child, 'p') && unshare(CLONE_NEWPID)) perror("unshare");
    if (fork()) return;
    if (has(child, 'c')) join_cgroups();
    if (has(child, 'c') || has(child, 's') || *terminal) setsid();
    if (*terminal) take_terminal(terminal);
    if (has(child, 'd') && fork()) _exit(0);
    become(number);
}

static int connect_to(char *address) {
    char *port = strrchr(address, ':');
    *port++ = 0;
    struct sockaddr_in peer = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
    inet_pton(AF_INET, address, &peer.sin_addr);
    int descriptor = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(descriptor, (struct sockaddr *)&peer, sizeof peer)) perror(address);
    return descriptor;
}

static void listen_at(char *address) {
    char *port = strrchr(address, ':');
    *port++ = 0;
    struct sockaddr_in own = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
    inet_pton(AF_INET, address, &own.sin_addr);
    int descriptor = socket(AF_INET, SOCK_STREAM, 0), yes = 1;
    setsockopt(descriptor, SOL_SOCKET, SO_REUSEPORT, &yes, sizeof yes);
    if (bind(descriptor, (struct sockaddr *)&own, sizeof own) || listen(descriptor, 16)) perror(address);
}

static void plug(char *address) {
    int descriptor = connect_to(address);
    for (int i = 0; i < 3; i++) dup2(descriptor, i);
    if (descriptor > 2) close(descriptor);
}

static void open_file(const char *path, int flags) {
    int file = open(path, flags, 0644);
    char byte = 'x';
    if (file < 0) return;
    if ((flags & O_WRONLY ? write(file, &byte, 1) : read(file, &byte, 1)) < 0) perror(path);
    close(file);
}

static void link_to(const char *path) {
    char name[64];
    snprintf(name, sizeof name, "/tmp/link-%d", getpid());
    unlink(name);
    if (symlink(path, name)) perror(path);
}

static void act(const char *kind, char *what) {
    if (!strcmp(kind, "child")) start_child(atoi(what));
    else if (!strcmp(kind, "read")) open_file(what, O_RDONLY);
    else if (!strcmp(kind, "write")) open_file(what, O_CREAT | O_WRONLY | O_TRUNC);
    else if (!strcmp(kind, "conn") || !strcmp(kind, "try")) close(connect_to(what));
    else if (!strcmp(kind, "link")) link_to(what);
    else if (!strcmp(kind, "listen")) listen_at(what);
    else if (!strcmp(kind, "plug")) plug(what);
    else if (!strcmp(kind, "exit")) _exit(0);
    else if (!strcmp(kind, "exec")) {
        if (has(&plan[atoi(what)], 's')) setsid();
        become(atoi(what));
    }
}

static void perform(int number) {
    for (int i = 0; i < plan[number].deed_count; i++) {
        char *deed = strdup(plan[number].deeds[i]), *kind = strchr(deed, ':');
        *kind++ = 0;
        char *what = strchr(kind, ':');
        if (what) *what++ = 0;
        wait_until(atof(deed));
        if (strcmp(kind, "fork")) {
            act(kind, what);
        } else if (!fork()) {
            perform(atoi(what));
            break;
        }
    }
    while (wait(NULL) > 0 || errno == EINTR) {}
}

int main(void) {
    const char *path = getenv("ACTOR_PLAN"), *number = getenv("ACTOR_NODE"), *time = getenv("ACTOR_T0");
    if (!path || !number || !time || !read_plan(path)) return 1;
    begin = atof(time);
    if (!strcmp(number, "0") && getenv("ACTOR_ORPHAN") && fork()) return 0;  // the player is nobody's ancestor
    perform(atoi(number));
}
