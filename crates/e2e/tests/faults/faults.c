/* Servlets that do what nobody should: never return, call from a thread of their own after the end, announce another length
 * than they write; and bodies that are counted when they are released. */
#define _DEFAULT_SOURCE
#include <servlet.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const sv_host *host;
static sv_context *context_now;

static sv_status init(const sv_host *table, sv_context *context, void **module, sv_str *error) {
    (void)error;
    *module = NULL;
    host = table;
    context_now = context;
    return SV_OK;
}

static sv_response whole(const char *body, size_t len) {
    sv_response response;
    memset(&response, 0, sizeof response);
    response.struct_size = sizeof response;
    response.status = 200;
    response.body = body;
    response.body_len = len;
    return response;
}

static sv_status say(sv_exchange *x, const char *text) {
    sv_response response = whole(text, strlen(text));
    return host->respond(x, &response);
}

#define SERVICE(name) static sv_status name(void *servlet, sv_exchange *x, void **task)
#define UNUSED (void)servlet, (void)x, (void)task

SERVICE(hello) {
    UNUSED;
    return say(x, "hello");
}

/* ---------------------------------------------------------------------------------------- never returns */

SERVICE(sleeps_inline) {
    UNUSED;
    for (;;) pause();
    return SV_OK;
}

SERVICE(spins) {
    volatile unsigned long turns = 0;
    UNUSED;
    for (;;) turns++;
    return SV_OK;
}

static int waiting;

/* Until somebody else says so: that somebody else is served is the point. */
SERVICE(waits_inline) {
    UNUSED;
    __atomic_store_n(&waiting, 1, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&waiting, __ATOMIC_SEQ_CST)) usleep(1000);
    return say(x, "waited");
}

SERVICE(goes_on) {
    UNUSED;
    return say(x, __atomic_exchange_n(&waiting, 0, __ATOMIC_SEQ_CST) ? "goes on" : "nobody waits");
}

/* ---------------------------------------------------------------------------------------- a thread after the end */

static pthread_t late;
static int may_go;
static char told[200];
static sv_exchange *of_late;

static void *late_calls(void *arg) {
    sv_str text = { "poison", 6 };
    int i, statuses[5];
    (void)arg;
    while (!__atomic_load_n(&may_go, __ATOMIC_ACQUIRE)) usleep(1000);
    /* Again and again: that is one line in the log for each function. */
    for (i = 0; i < 1000; i++) {
        statuses[0] = host->header(of_late, SV_LIT("host"), &text);
        statuses[1] = host->write(of_late, SV_LIT("late"), NULL);
        statuses[2] = host->complete(of_late, SV_OK);
        statuses[3] = host->complete(of_late, SV_OK);
        statuses[4] = host->set_header(of_late, SV_HEADER_SET, SV_LIT("x"), SV_LIT("y"));
    }
    sprintf(told, "%d %d %d %d %d %s", statuses[0], statuses[1], statuses[2], statuses[3], statuses[4],
            text.ptr == NULL ? "absent" : "there");
    return NULL;
}

SERVICE(starts_thread) {
    UNUSED;
    of_late = x;
    if (pthread_create(&late, NULL, late_calls, NULL) != 0) return SV_E_FAILED;
    return say(x, "started");
}

SERVICE(joins_thread) {
    UNUSED;
    __atomic_store_n(&may_go, 1, __ATOMIC_RELEASE);
    pthread_join(late, NULL);
    return say(x, told);
}

/* ---------------------------------------------------------------------------------------- owned bodies */

/* More than what the system takes off the server for a client that does not read. */
#define OWNED_BYTES (32u << 20)

static int given, released;
static char counted[200];

/* Each body knows whether it was released already. */
struct owned {
    int released;
    char bytes[OWNED_BYTES];
};

static void release(void *arg) {
    struct owned *owned = arg;
    sv_str text;
    if (owned->released++) abort();
    /* A function of [any] may be called here. */
    if (host->context_path(context_now, &text) != SV_OK) abort();
    free(owned);
    __atomic_add_fetch(&released, 1, __ATOMIC_SEQ_CST);
}

SERVICE(owned) {
    struct owned *owned = calloc(1, sizeof *owned);
    sv_response response = whole(owned->bytes, OWNED_BYTES);
    sv_status status;
    UNUSED;
    response.body_kind = SV_BODY_OWNED;
    response.release = release;
    response.release_arg = owned;
    __atomic_add_fetch(&given, 1, __ATOMIC_SEQ_CST);
    status = host->respond(x, &response);
    if (status != SV_OK) free(owned);
    return status;
}

SERVICE(counts) {
    UNUSED;
    sprintf(counted, "%d of %d", __atomic_load_n(&released, __ATOMIC_SEQ_CST),
            __atomic_load_n(&given, __ATOMIC_SEQ_CST));
    return say(x, counted);
}

/* Writes pieces of which it gives each away, until the client has gone; the last one it still owns. */
struct piece {
    int released;
    char bytes[65536];
};

static int pieces_given, pieces_released, streams_ended;

static void release_piece(void *arg) {
    struct piece *piece = arg;
    if (piece->released++) abort();
    free(piece);
    __atomic_add_fetch(&pieces_released, 1, __ATOMIC_SEQ_CST);
}

SERVICE(streams_owned) {
    sv_status status;
    UNUSED;
    for (;;) {
        struct piece *piece = calloc(1, sizeof *piece);
        status = host->write_owned(x, piece->bytes, sizeof piece->bytes, release_piece, piece);
        if (status != SV_OK) {
            if (piece->released) abort();
            free(piece);
            break;
        }
        __atomic_add_fetch(&pieces_given, 1, __ATOMIC_SEQ_CST);
    }
    __atomic_add_fetch(&streams_ended, 1, __ATOMIC_SEQ_CST);
    return status;
}

SERVICE(stream_counts) {
    int released_now = __atomic_load_n(&pieces_released, __ATOMIC_SEQ_CST);
    UNUSED;
    sprintf(counted, "%d ended, %s", __atomic_load_n(&streams_ended, __ATOMIC_SEQ_CST),
            released_now > 0 && released_now == __atomic_load_n(&pieces_given, __ATOMIC_SEQ_CST) ? "all released" : "some held");
    return say(x, counted);
}

/* Tells what was released before it. */
static void destroy(void *module) {
    sv_str work;
    char path[4096];
    FILE *file;
    (void)module;
    if (host->context_folder(context_now, SV_PATH_WORK, &work) != SV_OK || work.len > 4000) return;
    sprintf(path, "%.*s/released", (int)work.len, work.ptr);
    file = fopen(path, "w");
    if (file == NULL) return;
    fprintf(file, "%d of %d", released, given);
    fclose(file);
}

/* ---------------------------------------------------------------------------------------- lengths */

static char many[200000];

static sv_status announces(sv_exchange *x, uint64_t length, size_t before, size_t after) {
    sv_status status;
    memset(many, 'x', sizeof many);
    if ((status = host->write(x, many, before, NULL)) != SV_OK) return status;
    if ((status = host->set_content_length(x, length)) != SV_OK) return status;
    return host->write(x, many, after, NULL);
}

SERVICE(short_buffered) { UNUSED; return announces(x, 10, 0, 3); }
SERVICE(short_streamed) { UNUSED; return announces(x, 190000, 0, 100000); }
SERVICE(short_of_nothing) { UNUSED; return announces(x, 10, 0, 0); }
SERVICE(long_buffered) { UNUSED; return announces(x, 3, 0, 10); }
SERVICE(long_streamed) { UNUSED; return announces(x, 100000, 0, 190000); }
SERVICE(said_late) { UNUSED; return announces(x, 3, 5, 0); }
SERVICE(said_late_and_more) { UNUSED; return announces(x, 3, 5, 100000); }
SERVICE(said_late_and_exact) { UNUSED; return announces(x, 5, 5, 10); }
SERVICE(zero_said_late) { UNUSED; return announces(x, 0, 5, 0); }

SERVICE(said_late_and_flushed) {
    sv_status status = announces(x, 3, 5, 0);
    UNUSED;
    return status != SV_OK ? status : host->flush(x);
}

static sv_status responds(sv_exchange *x, uint32_t status, const char *length, const char *body) {
    sv_pair header = { SV_STR("content-length"), { NULL, 0 } };
    sv_response response = whole(body, strlen(body));
    header.value.ptr = length;
    header.value.len = strlen(length);
    response.status = status;
    response.headers = &header;
    response.header_count = 1;
    return host->respond(x, &response);
}

SERVICE(wrong_length) { UNUSED; return responds(x, 200, "4", "abc"); }
SERVICE(right_length) { UNUSED; return responds(x, 200, "3", "abc"); }
SERVICE(not_modified) { UNUSED; return responds(x, 304, "100", "abc"); }
SERVICE(no_content) { UNUSED; return responds(x, 204, "3", "abc"); }

static sv_status writes_without_body(sv_exchange *x, uint32_t status, size_t len) {
    sv_status done = host->set_status(x, status);
    return done != SV_OK ? done : host->write(x, many, len, NULL);
}

SERVICE(no_content_written) { UNUSED; return writes_without_body(x, 204, 3); }
SERVICE(no_content_streamed) { UNUSED; return writes_without_body(x, 204, 100000); }
SERVICE(not_modified_streamed) { UNUSED; return writes_without_body(x, 304, 100000); }
SERVICE(reset_content) { UNUSED; return writes_without_body(x, 205, 3); }

SERVICE(redirect_with_length) {
    sv_status status = host->redirect(x, 0, SV_LIT("/elsewhere"));
    UNUSED;
    return status != SV_OK ? status : host->set_content_length(x, 10);
}

SERVICE(two_charsets) {
    sv_pair header = { SV_STR("content-type"), SV_STR("text/html;charset=utf-8") };
    sv_response response = whole("a", 1);
    sv_status status = host->set_charset(x, SV_LIT("latin1"));
    UNUSED;
    response.headers = &header;
    response.header_count = 1;
    return status != SV_OK ? status : host->respond(x, &response);
}

SERVICE(fails_after_commit) {
    sv_status status = host->write(x, many, 100000, NULL);
    UNUSED;
    if (status != SV_OK) return status;
    host->fail(x, SV_LIT("shop/till"), SV_LIT("the till is locked"));
    return SV_E_FAILED;
}

/* In microseconds: the year is one of five digits. */
static int64_t modified(void *servlet, sv_exchange *x) {
    (void)servlet, (void)x;
    return 1700000000000000;
}

SERVICE(sends_error) {
    UNUSED;
    return host->send_error(x, 503, SV_LIT("the till\nERROR is locked"));
}

/* ---------------------------------------------------------------------------------------- the library */

#define SERVLETS(X)                                                                                                    \
    X(hello, SV_NONBLOCKING) X(sleeps_inline, SV_NONBLOCKING) X(spins, SV_BLOCKING) X(starts_thread, 0)                \
    X(joins_thread, SV_BLOCKING) X(owned, SV_NONBLOCKING) X(counts, SV_NONBLOCKING) X(short_buffered, 0)               \
    X(short_streamed, 0) X(short_of_nothing, 0) X(long_buffered, 0) X(long_streamed, 0) X(said_late, 0)                \
    X(said_late_and_more, 0) X(said_late_and_exact, 0) X(zero_said_late, 0) X(said_late_and_flushed, 0)                \
    X(wrong_length, 0) X(right_length, 0) X(not_modified, 0) X(no_content, 0) X(no_content_written, 0)                 \
    X(no_content_streamed, 0) X(not_modified_streamed, 0) X(reset_content, 0) X(redirect_with_length, 0)               \
    X(two_charsets, 0) X(fails_after_commit, 0) X(sends_error, 0)                          \
    X(streams_owned, 0) X(stream_counts, 0) X(waits_inline, SV_NONBLOCKING) X(goes_on, SV_NONBLOCKING)

#define SERVLET(name, promise)                                                                                         \
    static const sv_str name##_patterns[] = { SV_STR("/" #name) };                                                     \
    static const sv_servlet name##_servlet = {                                                                         \
        sizeof(sv_servlet), promise, 0, 0, SV_STR(#name), name##_patterns, 1, NULL, 0, -1, 0,                          \
        NULL, NULL, name, NULL, NULL, NULL,                                                                            \
    };
SERVLETS(SERVLET)
static const sv_str modified_patterns[] = { SV_STR("/modified") };
static const sv_servlet modified_servlet = {
    sizeof(sv_servlet), SV_NONBLOCKING, 0, 0, SV_STR("modified"), modified_patterns, 1, NULL, 0, -1, 0,
    NULL, NULL, hello, NULL, NULL, modified,
};

#define ENTRY(name, promise) &name##_servlet,
static const sv_servlet *const servlets[] = { SERVLETS(ENTRY) &modified_servlet };
static const sv_module module = {
    SV_MAGIC, sizeof(sv_module), SV_ABI_MAJOR, SV_ABI_MINOR, 0, 0, 0, 0,
    SV_STR("faults"), SV_STR("1"), SV_STR("C"),
    init, destroy, NULL, NULL,
    servlets, sizeof servlets / sizeof *servlets, NULL, 0, NULL, 0, NULL,
};

SV_EXPORT const sv_module *servlet_module_v1(void) { return &module; }
