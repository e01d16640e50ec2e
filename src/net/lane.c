#include "net/lane.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/secret.h"

/* ---- lanes ----------------------------------------------------------------------------------- */

static struct dk_lane *lane_new(const struct dk_mem *mem)
{
    struct dk_lane *lane = dk_mem_zalloc(mem, sizeof *lane);
    if (lane == NULL) {
        return NULL;
    }
    for (size_t i = 0; i < DK_LANE_SOCKETS; i++) {
        lane->sockets[i].fd = -1;
    }
    lane->multi = curl_multi_init();
    if (lane->multi == NULL) {
        dk_mem_free(mem, lane);
        return NULL;
    }
    curl_multi_setopt(lane->multi, CURLMOPT_MAXCONNECTS, (long)DK_LANE_SOCKETS);
    return lane;
}

void dk_lane_free(const struct dk_mem *mem, struct dk_lane *lane)
{
    curl_multi_cleanup(lane->multi);
    dk_mem_free(mem, lane);
}

struct dk_lane *dk_lane_take(struct dk_http *http)
{
    pthread_mutex_lock(&http->lock);
    struct dk_lane *lane = http->idle;
    if (lane != NULL) {
        http->idle = lane->next_idle;
    } else if ((lane = lane_new(&http->setup.world->mem)) != NULL) {
        lane->next = http->lanes;
        http->lanes = lane;
    }
    if (lane != NULL) {
        lane->lent = true;
    }
    pthread_mutex_unlock(&http->lock);
    return lane;
}

void dk_lane_give(struct dk_http *http, struct dk_lane *lane)
{
    pthread_mutex_lock(&http->lock);
    lane->lent = false;
    lane->next_idle = http->idle;
    http->idle = lane;
    pthread_mutex_unlock(&http->lock);
}

/* A child may have closed all that it had of its parent: then the number is another file's. */
static bool is_still_open(const struct dk_socket *socket)
{
    struct stat now;
    return fstat(socket->fd, &now) == 0 && S_ISSOCK(now.st_mode) && now.st_ino == socket->ino;
}

/* Each socket's number stands for a place without readers now: the parent's stays as it was. A lane
   without any says nothing of what became of libcurl's own descriptors: it is not closed either. */
bool dk_lane_forked(struct dk_lane *lane)
{
    int nowhere = open("/dev/null", O_RDWR | O_CLOEXEC);
    size_t put_away = 0, lost = 0;
    for (size_t i = 0; i < DK_LANE_SOCKETS; i++) {
        struct dk_socket *socket = &lane->sockets[i];
        if (socket->fd >= 0) {
            bool ok =
                nowhere >= 0 && is_still_open(socket) && dup3(nowhere, socket->fd, O_CLOEXEC) >= 0;
            put_away += ok;
            lost += !ok;
        }
        socket->fd = -1;
    }
    if (nowhere >= 0) {
        close(nowhere);
    }
    return put_away > 0 && lost == 0;
}

/* ---- sockets --------------------------------------------------------------------------------- */

static struct dk_socket *find_socket(struct dk_lane *lane, int fd)
{
    for (size_t i = 0; i < DK_LANE_SOCKETS; i++) {
        if (lane->sockets[i].fd == fd) {
            return &lane->sockets[i];
        }
    }
    return NULL;
}

static curl_socket_t open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
    struct dk_transfer *transfer = arg;
    (void)purpose;
    /* Through a proxy, the address is the proxy's, which the operator has set. */
    if (transfer->http->proxy == NULL &&
        !dk_endpoint_may_connect(transfer->request.to, &address->addr)) {
        transfer->forbidden = true;
        return CURL_SOCKET_BAD;
    }
    struct dk_socket *place = find_socket(transfer->lane, -1);
    struct stat made;
    int fd = place == NULL
                 ? -1
                 : socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
    if (fd < 0) {
        return CURL_SOCKET_BAD;
    }
    place->fd = fd;
    place->ino = fstat(fd, &made) == 0 ? made.st_ino : 0;
    return fd;
}

/* A connection may be closed by another transfer than the one that made it, of the same lane. */
static int close_socket(void *arg, curl_socket_t fd)
{
    struct dk_socket *place = find_socket(arg, fd);
    if (place != NULL) {
        place->fd = -1;
    }
    return close(fd);
}

/* OpenSSL's own copy of what it decrypted goes when it was handed on; and the keys of a connection
   are written nowhere, though libcurl would where SSLKEYLOGFILE says. */
static CURLcode set_tls(CURL *easy, void *ctx, void *arg)
{
    (void)easy;
    (void)arg;
    SSL_CTX_set_options(ctx, SSL_OP_CLEANSE_PLAINTEXT);
    SSL_CTX_set_keylog_callback(ctx, NULL);
    return CURLE_OK;
}

/* ---- what comes back ------------------------------------------------------------------------- */

static size_t take(struct dk_transfer *transfer, struct dk_buf *into, char *p, size_t n)
{
    struct dk_err err;
    dk_err_clear(&err);
    dk_rc rc = dk_buf_add(into, p, n, &err);
    transfer->too_long = transfer->too_long || rc == DK_E_LIMIT;
    return rc == DK_OK ? n : 0;
}

/* The bytes lie in libcurl's own buffer, which it frees as it is: an answer may be a data key. */
static size_t take_body(char *p, size_t size, size_t n, void *arg)
{
    struct dk_transfer *transfer = arg;
    size_t taken = take(transfer, &transfer->body, p, size * n);
    dk_wipe(p, size * n);
    return taken;
}

/* Two lengths that may say different things: a proxy may have taken the other one. */
static bool has_two_lengths(const struct dk_transfer *transfer)
{
    char value[8];
    struct dk_http_reply reply = {.head = dk_view_of(transfer->head.p, transfer->head.n)};
    return dk_http_header(&reply, "content-length", value, sizeof value) &&
           dk_http_header(&reply, "transfer-encoding", value, sizeof value);
}

/* A new status line begins the headers anew: what came before was 100 Continue. */
static size_t take_head(char *p, size_t size, size_t n, void *arg)
{
    struct dk_transfer *transfer = arg;
    if (size * n > 5 && memcmp(p, "HTTP/", 5) == 0) {
        transfer->head.n = 0;
    }
    size_t taken = take(transfer, &transfer->head, p, size * n);
    transfer->two_lengths = taken > 0 && has_two_lengths(transfer);
    return transfer->two_lengths ? 0 : taken;
}

/* ---- one request ----------------------------------------------------------------------------- */

static dk_rc add_lines(struct dk_transfer *transfer, struct dk_err *err)
{
    for (const char *line = dk_http_next_line(&transfer->request, NULL); line != NULL;
         line = dk_http_next_line(&transfer->request, line)) {
        struct curl_slist *more = curl_slist_append(transfer->lines, line);
        if (more == NULL) {
            return DK_FAIL(err, NOMEM, "no memory for a request");
        }
        transfer->lines = more;
    }
    return DK_OK;
}

/* Where to: from the endpoint, never from an answer. */
static void set_target(CURL *easy, const struct dk_http_request *request)
{
    char url[DK_HOST_MAX + 256 + DK_HTTP_PATH_MAX + 32];
    const struct dk_endpoint *to = request->to;
    bool six = strchr(to->host, ':') != NULL;
    snprintf(url, sizeof url, "%s://%s%s%s:%u%s%s", to->tls ? "https" : "http", six ? "[" : "",
             to->host, six ? "]" : "", to->port, to->path, request->path);
    curl_easy_setopt(easy, CURLOPT_URL, url);
    curl_easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, to->tls ? "https" : "http");
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
}

static void set_message(CURL *easy, struct dk_transfer *transfer)
{
    const struct dk_http_request *request = &transfer->request;
    if (strcmp(request->method, "GET") != 0) {
        curl_easy_setopt(easy, CURLOPT_POST, 1L);
        curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, request->method);
        curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->body.n);
        curl_easy_setopt(easy, CURLOPT_POSTFIELDS,
                         request->body.n > 0 ? (const char *)request->body.p : "");
    }
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, transfer->lines);
    curl_easy_setopt(easy, CURLOPT_USERAGENT, "dekhand/" DK_VERSION);
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, take_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, transfer);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, take_head);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, transfer);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, transfer->text);
}

static void set_transport(CURL *easy, struct dk_transfer *transfer, int64_t ms)
{
    const struct dk_http *http = transfer->http;
    const struct dk_http_limits *limits = &http->setup.limits;
    int64_t connect = limits->connect_ms < ms ? limits->connect_ms : ms;
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    /* Else who gives up a look-up waits for its thread: as long as the resolver likes. */
    curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)connect);
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)ms);
    curl_easy_setopt(easy, CURLOPT_PROXY, http->proxy != NULL ? http->proxy : "");
    /* Else no_proxy of the environment goes around it, and no address is judged then. */
    curl_easy_setopt(easy, CURLOPT_NOPROXY, "");
    curl_easy_setopt(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    curl_easy_setopt(easy, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
    curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 1L);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 2L);
    curl_easy_setopt(easy, CURLOPT_SSL_CTX_FUNCTION, set_tls);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, open_socket);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, transfer);
    curl_easy_setopt(easy, CURLOPT_CLOSESOCKETFUNCTION, close_socket);
    curl_easy_setopt(easy, CURLOPT_CLOSESOCKETDATA, transfer->lane);
    if (http->ca_file != NULL) {
        curl_easy_setopt(easy, CURLOPT_CAINFO, http->ca_file);
        curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
    }
}

dk_rc dk_transfer_begin(struct dk_transfer *transfer, int64_t ms, struct dk_err *err)
{
    transfer->text[0] = '\0';
    transfer->too_long = transfer->forbidden = transfer->two_lengths = false;
    transfer->head.n = transfer->body.n = 0;
    DK_TRY(add_lines(transfer, err));
    CURL *easy = curl_easy_init();
    if (easy == NULL) {
        return DK_FAIL(err, NOMEM, "no memory for a request");
    }
    transfer->easy = easy;
    set_target(easy, &transfer->request);
    set_message(easy, transfer);
    set_transport(easy, transfer, ms);
    curl_easy_setopt(easy, CURLOPT_PRIVATE, transfer);
    CURLMcode code = curl_multi_add_handle(transfer->lane->multi, easy);
    return code == CURLM_OK
               ? DK_OK
               : DK_FAIL(err, NOMEM, "a request cannot begin: %s", curl_multi_strerror(code));
}

/* A line may hold a token: it is wiped before libcurl frees it. */
static void wipe_lines(struct curl_slist *lines)
{
    for (struct curl_slist *line = lines; line != NULL; line = line->next) {
        dk_wipe(line->data, strlen(line->data));
    }
    curl_slist_free_all(lines);
}

void dk_transfer_end(struct dk_transfer *transfer)
{
    if (transfer->easy != NULL) {
        curl_multi_remove_handle(transfer->lane->multi, transfer->easy);
        curl_easy_cleanup(transfer->easy);
        transfer->easy = NULL;
    }
    wipe_lines(transfer->lines);
    transfer->lines = NULL;
}

/* ---- why nothing came ------------------------------------------------------------------------ */

bool dk_transfer_timed_out(CURLcode code)
{
    return code == CURLE_OPERATION_TIMEDOUT;
}

bool dk_transfer_broke_off(const struct dk_transfer *transfer, CURLcode code)
{
    bool framing =
        code == CURLE_PARTIAL_FILE || code == CURLE_RECV_ERROR || code == CURLE_WEIRD_SERVER_REPLY;
    return transfer->two_lengths || (framing && transfer->head.n > 0);
}

dk_rc dk_transfer_explain(const struct dk_transfer *transfer, CURLcode code, struct dk_err *err)
{
    const char *service = transfer->http->setup.service;
    const char *host = transfer->request.to->authority;
    const char *text = transfer->text[0] != '\0' ? transfer->text : curl_easy_strerror(code);
    if (transfer->forbidden) {
        return DK_FAIL(err, UNREACHABLE,
                       "%s: the name %.100s stands for an address that is none of a service "
                       "(link-local or loopback): nothing was sent",
                       service, host);
    }
    if (transfer->too_long) {
        return DK_FAIL(err, PROVIDER, "%s: the answer of %.100s is longer than an answer is",
                       service, host);
    }
    if (dk_transfer_broke_off(transfer, code)) {
        return DK_FAIL_BACKEND(err, PROVIDER, (long)code,
                               "%s: the answer of %.100s is broken: %.120s", service, host,
                               transfer->two_lengths ? "it has two lengths" : text);
    }
    if (code == CURLE_OUT_OF_MEMORY || code == CURLE_WRITE_ERROR) {
        return DK_FAIL(err, NOMEM, "%s: no memory for an answer", service);
    }
    if (code == CURLE_SSL_CACERT_BADFILE) {
        return DK_FAIL(err, CONFIG, "KMS_CA_FILE: %.120s", text);
    }
    return DK_FAIL_BACKEND(err, UNREACHABLE, (long)code, "%s does not answer at %.100s: %.150s",
                           service, host, text);
}
