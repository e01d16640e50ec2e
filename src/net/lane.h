/*
 * lane: connections of one thread at a time, within a dk_http (net/http, net/run).
 *
 * A run takes a lane, has it to itself, and gives it back with its connections open: the next run
 * takes the one that was used last. After a fork the child lets go of all of them: their sockets
 * are put out of reach before libcurl closes them, so that it says nothing on its parent's.
 */
#ifndef DK_NET_LANE_H
#define DK_NET_LANE_H

#include <curl/curl.h>
#include <pthread.h>

#include "net/http.h"

#define DK_LANE_SOCKETS 64

struct dk_socket {
    int fd;    /* -1 = free place */
    ino_t ino; /* that it is known by */
};

struct dk_lane {
    CURLM *multi;
    struct dk_socket sockets[DK_LANE_SOCKETS]; /* open ones */
    bool lent;
    struct dk_lane *next; /* of all */
    struct dk_lane *next_idle;
};

struct dk_http {
    struct dk_http_setup setup;
    char *ca_file; /* own */
    char *proxy;
    pthread_mutex_t lock; /* guards what follows */
    struct dk_lane *lanes;
    struct dk_lane *idle;
    struct dk_budget budget;
    struct dk_breaker breaker;
    struct dk_pace pace;
};

/* One request on its way and what comes back. */
struct dk_transfer {
    struct dk_http *http;
    struct dk_lane *lane;
    struct dk_http_call *call;
    CURL *easy; /* NULL: none is on its way */
    struct curl_slist *lines;
    struct dk_http_request request;
    struct dk_buf head;
    struct dk_buf body;
    char text[CURL_ERROR_SIZE];
    bool too_long;
    bool two_lengths; /* content-length and transfer-encoding */
    bool forbidden;   /* the address is one that the endpoint must not have */
    int tried;
    int64_t end_ms;     /* of the call */
    int64_t due_ms;     /* waiting until then */
    struct dk_err last; /* why the try before did not do */
    int paid;           /* for this retry, from the budget */
};

/* NULL: no memory. */
struct dk_lane *dk_lane_take(struct dk_http *http);
void dk_lane_give(struct dk_http *http, struct dk_lane *lane);
void dk_lane_free(const struct dk_mem *mem, struct dk_lane *lane);
/* In a child. False: it is not to be closed, and stays where it is: its descriptors' numbers may be
   the parent's still, or another's already. */
DK_MUST_USE bool dk_lane_forked(struct dk_lane *lane);

/* Puts the transfer's request on its way, within `ms`. */
DK_MUST_USE dk_rc dk_transfer_begin(struct dk_transfer *transfer, int64_t ms, struct dk_err *err);
/* Takes it off; what came is in head and body. */
void dk_transfer_end(struct dk_transfer *transfer);
/* Why nothing came: E_UNREACHABLE, E_PROVIDER for an answer that cannot be one. */
dk_rc dk_transfer_explain(const struct dk_transfer *transfer, CURLcode code, struct dk_err *err);
bool dk_transfer_timed_out(CURLcode code);
/* An answer began, and was cut off, or is not framed as HTTP is. */
bool dk_transfer_broke_off(const struct dk_transfer *transfer, CURLcode code);

#endif
