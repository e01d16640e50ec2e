#include "cli/bench_forwarder.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define PAIRS 32
#define GREETING_SECONDS 2

struct pair {
    int client; /* -1: this place is free */
    int server;
};

struct bench_forwarder {
    int listener;
    int wake[2]; /* a byte: look at the flags again */
    pthread_t thread;
    atomic_bool stop;
    atomic_bool hold;
    atomic_bool asked; /* since it holds */
    struct pair pairs[PAIRS];
};

/* ---- a connection ---------------------------------------------------------------------------- */

static bool send_all(int fd, const char *p, size_t n)
{
    while (n > 0) {
        ssize_t sent = send(fd, p, n, MSG_NOSIGNAL);
        if (sent <= 0) {
            return false;
        }
        p += sent;
        n -= (size_t)sent;
    }
    return true;
}

/* CONNECT HOST:PORT HTTP/1.1, to its empty line. */
static bool read_target(int fd, char host[static 256], char port[static 8])
{
    char text[2048];
    size_t n = 0;
    do {
        ssize_t got = recv(fd, text + n, sizeof text - 1 - n, 0);
        if (got <= 0) {
            return false;
        }
        n += (size_t)got;
        text[n] = '\0';
    } while (strstr(text, "\r\n\r\n") == NULL);
    return sscanf(text, "CONNECT [%255[^]]]:%7[0-9] ", host, port) == 2 ||
           sscanf(text, "CONNECT %255[^: ]:%7[0-9] ", host, port) == 2;
}

static int connect_to(const char *host, const char *port)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *all = NULL;
    int fd = -1;
    if (getaddrinfo(host, port, &hints, &all) != 0) {
        return -1;
    }
    for (struct addrinfo *a = all; a != NULL && fd < 0; a = a->ai_next) {
        fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC, a->ai_protocol);
        if (fd >= 0 && connect(fd, a->ai_addr, a->ai_addrlen) != 0) {
            close(fd);
            fd = -1;
        }
    }
    freeaddrinfo(all);
    return fd;
}

/* The other end, or -1. */
static int open_server(int client)
{
    static const char made[] = "HTTP/1.1 200 Connection established\r\n\r\n";
    struct timeval limit = {.tv_sec = GREETING_SECONDS};
    char host[256], port[8];
    (void)setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    int server = read_target(client, host, port) ? connect_to(host, port) : -1;
    if (server >= 0 && !send_all(client, made, sizeof made - 1)) {
        close(server);
        server = -1;
    }
    return server;
}

static void drop(struct pair *pair)
{
    close(pair->client);
    close(pair->server);
    pair->client = -1;
}

static void take_client(struct bench_forwarder *f)
{
    int client = accept4(f->listener, NULL, NULL, SOCK_CLOEXEC);
    for (size_t i = 0; client >= 0 && i < PAIRS; i++) {
        struct pair *pair = &f->pairs[i];
        if (pair->client < 0) {
            pair->server = open_server(client);
            if (pair->server < 0) {
                break;
            }
            pair->client = client;
            return;
        }
    }
    if (client >= 0) {
        close(client);
    }
}

/* ---- the thread ------------------------------------------------------------------------------ */

/* What is there goes to the other end; false: there is no more to come. */
static bool carry(int from, int to)
{
    char bytes[16384];
    ssize_t n = recv(from, bytes, sizeof bytes, 0);
    return n > 0 && send_all(to, bytes, (size_t)n);
}

static void carry_pair(struct bench_forwarder *f, struct pair *pair, const struct pollfd *look)
{
    bool good = true;
    if (look[0].revents != 0) {
        good = carry(pair->client, pair->server);
        atomic_store(&f->asked, true);
    }
    if (good && look[1].revents != 0) {
        good = carry(pair->server, pair->client);
    }
    if (!good) {
        drop(pair);
    }
}

static void turn(struct bench_forwarder *f)
{
    char bytes[64];
    bool hold = atomic_load(&f->hold);
    struct pollfd look[2 + 2 * PAIRS] = {{f->listener, POLLIN, 0}, {f->wake[0], POLLIN, 0}};
    for (size_t i = 0; i < PAIRS; i++) {
        bool used = f->pairs[i].client >= 0;
        look[2 + 2 * i] = (struct pollfd){used ? f->pairs[i].client : -1, POLLIN, 0};
        look[3 + 2 * i] = (struct pollfd){used && !hold ? f->pairs[i].server : -1, POLLIN, 0};
    }
    if (poll(look, sizeof look / sizeof look[0], -1) <= 0) {
        return;
    }
    for (size_t i = 0; i < PAIRS; i++) {
        if (look[2 + 2 * i].fd >= 0) {
            carry_pair(f, &f->pairs[i], &look[2 + 2 * i]);
        }
    }
    if (look[0].revents != 0) {
        take_client(f);
    }
    if (look[1].revents != 0) {
        (void)!read(f->wake[0], bytes, sizeof bytes);
    }
}

static void *serve(void *arg)
{
    struct bench_forwarder *f = arg;
    while (!atomic_load(&f->stop)) {
        turn(f);
    }
    return NULL;
}

static void wake(struct bench_forwarder *f)
{
    (void)!write(f->wake[1], "", 1);
}

/* ---- its life -------------------------------------------------------------------------------- */

static bool listen_on(struct bench_forwarder *f, uint16_t *port)
{
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof here;
    f->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (f->listener < 0 || bind(f->listener, (struct sockaddr *)&here, sizeof here) != 0 ||
        listen(f->listener, PAIRS) != 0 ||
        getsockname(f->listener, (struct sockaddr *)&here, &n) != 0) {
        return false;
    }
    *port = ntohs(here.sin_port);
    return true;
}

static void free_all(struct bench_forwarder *f)
{
    int fds[] = {f->listener, f->wake[0], f->wake[1]};
    for (size_t i = 0; i < sizeof fds / sizeof fds[0]; i++) {
        if (fds[i] >= 0) {
            close(fds[i]);
        }
    }
    for (size_t i = 0; i < PAIRS; i++) {
        if (f->pairs[i].client >= 0) {
            drop(&f->pairs[i]);
        }
    }
    free(f);
}

struct bench_forwarder *bench_forwarder_open(uint16_t *port)
{
    struct bench_forwarder *f = calloc(1, sizeof *f);
    if (f == NULL) {
        return NULL;
    }
    f->listener = f->wake[0] = f->wake[1] = -1;
    for (size_t i = 0; i < PAIRS; i++) {
        f->pairs[i].client = -1;
    }
    if (!listen_on(f, port) || pipe2(f->wake, O_CLOEXEC) != 0 ||
        pthread_create(&f->thread, NULL, serve, f) != 0) {
        free_all(f);
        return NULL;
    }
    return f;
}

void bench_forwarder_close(struct bench_forwarder *f)
{
    if (f != NULL) {
        atomic_store(&f->stop, true);
        wake(f);
        pthread_join(f->thread, NULL);
        free_all(f);
    }
}

/* ---- holding back ---------------------------------------------------------------------------- */

void bench_forwarder_hold(struct bench_forwarder *f)
{
    atomic_store(&f->hold, true);
    atomic_store(&f->asked, false);
    wake(f);
}

bool bench_forwarder_await(struct bench_forwarder *f, int ms)
{
    for (; !atomic_load(&f->asked) && ms > 0; ms--) {
        usleep(1000);
    }
    return atomic_load(&f->asked);
}

void bench_forwarder_release(struct bench_forwarder *f)
{
    atomic_store(&f->hold, false);
    wake(f);
}
