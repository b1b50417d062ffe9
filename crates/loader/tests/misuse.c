/* Wrong use of the host's table, all that a library can come up with: each check is asked for by the last segment of a path,
 * and says what was not as servlet.h has it. Used by misuse.rs with a mock of the container, and by e2e with the real one. */
#define _POSIX_C_SOURCE 200809L
#include <servlet.h>

#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const sv_host *host;
/* Of this generation, and of the one before it in this process. */
static sv_context *context_now, *context_before;
/* Of an exchange that has ended. */
static sv_exchange *ended;

typedef struct said {
    char text[16384];
    size_t len;
} said;

static void note(said *said, const char *format, ...) {
    va_list arguments;
    int len;
    va_start(arguments, format);
    len = vsnprintf(said->text + said->len, sizeof said->text - said->len, format, arguments);
    va_end(arguments);
    said->len += (size_t)len;
    if (said->len >= sizeof said->text) said->len = sizeof said->text - 1;
}

#define IS(want, call)                                                                                                 \
    do {                                                                                                               \
        long long got_ = (long long)(call), want_ = (long long)(want);                                                 \
        if (got_ != want_) note(said, "line %d: %s is %lld, not %lld; ", __LINE__, #call, got_, want_);                \
    } while (0)
#define HOLDS(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition)) note(said, "line %d: not so: %s; ", __LINE__, #condition);                                   \
    } while (0)

/* Places for results, with something in them before each call. */
typedef struct results {
    sv_str s, s2;
    const sv_pair *pairs;
    size_t n;
    const void *p;
    uint32_t u;
} results;

static results poisoned(void) {
    static const sv_pair pair;
    results r = { { "poison", 6 }, { "poison", 6 }, &pair, 77, "poison", 77 };
    return r;
}

static int absent(sv_str s) { return s.ptr == NULL && s.len == 0; }

#define NONE(want, call) do { r = poisoned(); IS(want, host->call); } while (0)
#define TEXT(want, call) do { r = poisoned(); IS(want, host->call); HOLDS(absent(r.s)); } while (0)
#define PAIRS(want, call) do { r = poisoned(); IS(want, host->call); HOLDS(r.pairs == NULL && r.n == 0); } while (0)
#define COUNT(want, call) do { r = poisoned(); IS(want, host->call); HOLDS(r.n == 0); } while (0)
#define PLACE(want, call) do { r = poisoned(); IS(want, host->call); HOLDS(r.p == NULL); } while (0)

/* Counts. Nobody releases on another thread here. */
static void release(void *arg) { ++*(int *)arg; }

static sv_response answer(const char *body) {
    sv_response response;
    memset(&response, 0, sizeof response);
    response.struct_size = sizeof response;
    response.status = 200;
    response.body = body;
    response.body_len = strlen(body);
    return response;
}

/* The functions that this server has, on a handle that may not be used. */
static void each_of_exchange(said *said, sv_exchange *x, sv_status want) {
    sv_response whole = answer("never");
    char buffer[16];
    results r;
    int released = 0;
    whole.body_kind = SV_BODY_OWNED;
    whole.release = release;
    whole.release_arg = &released;
    HOLDS(host->request(x) == NULL);
    HOLDS(host->tls(x) == NULL);
    TEXT(want, header(x, SV_LIT("host"), &r.s));
    TEXT(want, parameter(x, SV_LIT("a"), 0, &r.s));
    PAIRS(want, parameters(x, &r.pairs, &r.n));
    TEXT(want, path_parameter(x, SV_LIT("a"), &r.s));
    TEXT(want, cookie(x, SV_LIT("a"), &r.s));
    PAIRS(want, cookies(x, &r.pairs, &r.n));
    COUNT(want, part_count(x, &r.n));
    PLACE(want, part(x, 0, (const sv_part **)&r.p));
    TEXT(want, attribute(x, SV_LIT("a"), &r.s));
    PAIRS(want, attributes(x, &r.pairs, &r.n));
    NONE(want, set_attribute(x, SV_LIT("a"), SV_LIT("b")));
    TEXT(want, principal(x, &r.s, &r.s2));
    NONE(want, in_role(x, SV_LIT("a")));
    NONE(want, login(x, SV_LIT("a"), SV_LIT("b")));
    NONE(want, logout(x));
    COUNT(want, read(x, buffer, sizeof buffer, &r.n));
    TEXT(want, read_chunk(x, &r.s));
    TEXT(want, read_all(x, 100, &r.s));
    PAIRS(want, request_trailers(x, &r.pairs, &r.n));
    NONE(want, respond(x, &whole));
    NONE(want, set_status(x, 204));
    NONE(want, set_header(x, SV_HEADER_SET, SV_LIT("x-wrong"), SV_LIT("1")));
    TEXT(want, response_header(x, SV_LIT("a"), 0, &r.s));
    NONE(want, response_status(x, &r.u));
    IS(0, r.u);
    NONE(want, set_content_type(x, SV_LIT("text/wrong")));
    NONE(want, set_charset(x, SV_LIT("wrong")));
    NONE(want, set_content_length(x, 12345));
    NONE(want, set_buffer_size(x, 0));
    NONE(want, set_cookie(x, NULL));
    NONE(want, set_trailer(x, SV_LIT("a"), SV_LIT("b")));
    NONE(want, informational(x, 103, NULL, 0));
    COUNT(want, write(x, SV_LIT("wrong"), &r.n));
    NONE(want, write_owned(x, SV_LIT("wrong"), release, &released));
    NONE(want, flush(x));
    NONE(want, reset(x));
    NONE(want, reset_buffer(x));
    NONE(want, send_error(x, 500, SV_LIT("wrong")));
    NONE(want, redirect(x, 0, SV_LIT("/wrong")));
    NONE(want, committed(x));
    TEXT(want, encode_url(x, SV_LIT("/a"), &r.s));
    HOLDS(host->alloc(x, 1, 1) == NULL);
    TEXT(want, error_text(x, &r.s));
    NONE(want, fail(x, SV_LIT("wrong"), SV_LIT("wrong")));
    NONE(want, unavailable(x, 1, SV_LIT("wrong")));
    NONE(want, dispatch(x, SV_FORWARD, SV_LIT("/a")));
    NONE(want, cancelled(x));
    NONE(want, retiring(x));
    NONE(want, detach(x, NULL, NULL));
    NONE(want, complete(x, SV_OK));
    NONE(want, async_dispatch(x, NULL, 0));
    NONE(want, set_timeout(x, 1));
    HOLDS(host->waker(x) == NULL);
    PLACE(want, session(x, 1, (sv_session **)&r.p));
    PLACE(want, session_info(x, (const sv_session_info **)&r.p));
    HOLDS(host->context(x) == NULL);
    IS(0, released);
}

static void each_of_context(said *said, sv_context *c, sv_status want) {
    char buffer[16];
    results r;
    IS(0, host->log_enabled(c, SV_LOG_ERROR));
    NONE(want, log_message(c, NULL, SV_LOG_INFO, SV_LIT("wrong")));
    TEXT(want, context_path(c, &r.s));
    TEXT(want, context_parameter(c, SV_LIT("a"), &r.s));
    PAIRS(want, context_parameters(c, &r.pairs, &r.n));
    TEXT(want, context_folder(c, SV_PATH_ROOT, &r.s));
    TEXT(want, context_mime_type(c, SV_LIT("a.txt"), &r.s));
    TEXT(want, context_resource(c, SV_LIT("a"), &r.s));
    COUNT(want, context_attribute(c, SV_LIT("a"), buffer, sizeof buffer, &r.n));
    NONE(want, context_set_attribute(c, SV_LIT("a"), SV_LIT("b")));
    IS(0, host->context_generation(c));
    NONE(want, context_post(c, release, NULL));
    IS(SV_E_ARG, host->context_timer(c, 1, NULL));
}

/* ---------------------------------------------------------------------------------------- handles and threads */

static void null_handles(said *said, sv_exchange *x) {
    (void)x;
    each_of_exchange(said, NULL, SV_E_ARG);
    each_of_context(said, NULL, SV_E_ARG);
}

static void made_up_handles(said *said, sv_exchange *x) {
    int bit;
    sv_str text;
    each_of_exchange(said, (sv_exchange *)(uintptr_t)1, SV_E_STALE);
    each_of_exchange(said, (sv_exchange *)UINTPTR_MAX, SV_E_STALE);
    each_of_exchange(said, (sv_exchange *)said, SV_E_STALE);
    each_of_context(said, (sv_context *)(uintptr_t)4096, SV_E_STALE);
    each_of_context(said, (sv_context *)UINTPTR_MAX, SV_E_STALE);
    each_of_context(said, (sv_context *)said, SV_E_STALE);
    for (bit = 0; bit < 64; bit++) {
        /* Maybe another one's that is in use just now: then it is another thread's. */
        HOLDS(host->header((sv_exchange *)((uintptr_t)x ^ (uintptr_t)1 << bit), SV_LIT("host"), &text) < 0);
        HOLDS(absent(text));
    }
}

static void handles_of_another_kind(said *said, sv_exchange *x) {
    each_of_exchange(said, (sv_exchange *)context_now, SV_E_STALE);
    each_of_context(said, (sv_context *)x, SV_E_STALE);
}

struct errand {
    void (*run)(said *, sv_exchange *, sv_status);
    said *said;
    sv_exchange *exchange;
    sv_status want;
};

static void *run_errand(void *arg) {
    struct errand *errand = arg;
    errand->run(errand->said, errand->exchange, errand->want);
    return NULL;
}

static void on_another_thread(said *said, sv_exchange *x, sv_status want) {
    struct errand errand = { each_of_exchange, said, x, want };
    pthread_t thread;
    if (pthread_create(&thread, NULL, run_errand, &errand) != 0) {
        note(said, "no thread; ");
        return;
    }
    pthread_join(thread, NULL);
}

static void another_thread(said *said, sv_exchange *x) {
    results r;
    on_another_thread(said, x, SV_E_THREAD);
    IS(SV_NONE, host->attribute(x, SV_LIT("a"), &r.s));
    IS(SV_NONE, host->response_header(x, SV_LIT("x-wrong"), 0, &r.s));
    IS(SV_NONE, host->response_header(x, SV_LIT("content-type"), 0, &r.s));
    IS(SV_OK, host->response_status(x, &r.u));
    IS(200, r.u);
    IS(0, host->committed(x));
    /* Only before any output. */
    IS(SV_OK, host->set_buffer_size(x, 8192));
    IS(SV_OK, host->context_path(context_now, &r.s));
}

static void keep_the_handle(said *said, sv_exchange *x) {
    (void)said;
    ended = x;
}

static void ended_handle(said *said, sv_exchange *x) {
    int tries = 0;
    HOLDS(ended != x);
    /* Its answer may have come before its end. */
    while (host->flush(ended) == SV_E_THREAD && tries++ < 1000000) {
        sched_yield();
    }
    each_of_exchange(said, ended, SV_E_STALE);
    on_another_thread(said, ended, SV_E_STALE);
}

/* Threads that call all the time, while exchanges begin and end in the same slots. */
static pthread_t hammers[2];
static sv_exchange *hammered;
static int hammering, hammer_wrong;

static void *hammer(void *arg) {
    sv_str text;
    (void)arg;
    while (__atomic_load_n(&hammering, __ATOMIC_SEQ_CST)) {
        sv_exchange *x = __atomic_load_n(&hammered, __ATOMIC_SEQ_CST);
        sv_status status = host->header(x, SV_LIT("host"), &text);
        if ((status != SV_E_THREAD && status != SV_E_STALE) || !absent(text)) hammer_wrong = 1;
    }
    return NULL;
}

static void hammer_begins(said *said, sv_exchange *x) {
    int i;
    hammered = x;
    hammering = 1;
    for (i = 0; i < 2; i++) IS(0, pthread_create(&hammers[i], NULL, hammer, NULL));
}

static void is_hammered(said *said, sv_exchange *x) {
    sv_str text;
    int i;
    __atomic_store_n(&hammered, x, __ATOMIC_SEQ_CST);
    for (i = 0; i < 20; i++) IS(SV_OK, host->header(x, SV_LIT("host"), &text));
}

static void hammer_ends(said *said, sv_exchange *x) {
    int i;
    (void)x;
    __atomic_store_n(&hammering, 0, __ATOMIC_SEQ_CST);
    for (i = 0; i < 2; i++) IS(0, pthread_join(hammers[i], NULL));
    IS(0, hammer_wrong);
}

static void ended_context(said *said, sv_exchange *x) {
    (void)x;
    HOLDS(context_before != NULL && context_before != context_now);
    each_of_context(said, context_before, SV_E_STALE);
}

/* ---------------------------------------------------------------------------------------- arguments */

static const sv_str bad_bytes[] = {
    { NULL, 1 }, { NULL, SIZE_MAX }, { "x", (size_t)PTRDIFF_MAX + 1 }, { "x", SIZE_MAX },
};
static const sv_str bad_texts[] = { SV_STR("\xff"), SV_STR("a\xc3"), SV_STR("\xed\xa0\x80"), SV_STR("\xc0\xaf") };

/* Calls with each text that is none as p, l. */
#define BAD_BYTES(call)                                                                                                \
    for (i = 0; i < sizeof bad_bytes / sizeof *bad_bytes; i++) {                                                       \
        const char *p = bad_bytes[i].ptr;                                                                              \
        size_t l = bad_bytes[i].len;                                                                                   \
        r = poisoned();                                                                                                \
        IS(SV_E_ARG, host->call);                                                                                      \
    }
#define BAD_TEXTS(call)                                                                                                \
    BAD_BYTES(call)                                                                                                    \
    for (i = 0; i < sizeof bad_texts / sizeof *bad_texts; i++) {                                                       \
        const char *p = bad_texts[i].ptr;                                                                              \
        size_t l = bad_texts[i].len;                                                                                   \
        r = poisoned();                                                                                                \
        IS(SV_E_ARG, host->call);                                                                                      \
    }

static void texts(said *said, sv_exchange *x) {
    sv_response whole = answer("never");
    sv_pair pair = { SV_STR("x-a"), SV_STR("b") };
    results r;
    size_t i;
    char buffer[4];
    int released = 0;
    BAD_TEXTS(header(x, p, l, &r.s))
    HOLDS(absent(r.s));
    BAD_TEXTS(parameter(x, p, l, 0, &r.s))
    BAD_TEXTS(path_parameter(x, p, l, &r.s))
    BAD_TEXTS(cookie(x, p, l, &r.s))
    BAD_TEXTS(attribute(x, p, l, &r.s))
    BAD_TEXTS(set_attribute(x, p, l, SV_LIT("a")))
    BAD_BYTES(set_attribute(x, SV_LIT("a"), p, l))
    BAD_TEXTS(in_role(x, p, l))
    BAD_TEXTS(set_header(x, SV_HEADER_SET, p, l, SV_LIT("a")))
    BAD_BYTES(set_header(x, SV_HEADER_SET, SV_LIT("a"), p, l))
    BAD_TEXTS(response_header(x, p, l, 0, &r.s))
    BAD_TEXTS(set_content_type(x, p, l))
    BAD_TEXTS(set_charset(x, p, l))
    BAD_BYTES(write(x, p, l, &r.n))
    IS(0, r.n);
    BAD_BYTES(write_owned(x, p, l, release, &released))
    IS(0, released);
    BAD_TEXTS(send_error(x, 500, p, l))
    BAD_TEXTS(redirect(x, 0, p, l))
    BAD_TEXTS(encode_url(x, p, l, &r.s))
    BAD_TEXTS(fail(x, p, l, SV_LIT("a")))
    BAD_TEXTS(fail(x, SV_LIT("a"), p, l))
    BAD_TEXTS(unavailable(x, 1, p, l))
    BAD_BYTES(log_message(context_now, x, SV_LOG_DEBUG, p, l))
    BAD_TEXTS(context_parameter(context_now, p, l, &r.s))
    BAD_TEXTS(context_mime_type(context_now, p, l, &r.s))
    BAD_TEXTS(context_resource(context_now, p, l, &r.s))
    BAD_TEXTS(context_attribute(context_now, p, l, buffer, sizeof buffer, &r.n))
    BAD_TEXTS(context_set_attribute(context_now, p, l, SV_LIT("a")))
    BAD_BYTES(context_set_attribute(context_now, SV_LIT("a"), p, l))
    whole.headers = &pair;
    whole.header_count = 1;
    for (i = 0; i < sizeof bad_bytes / sizeof *bad_bytes; i++) {
        pair.name = bad_bytes[i];
        IS(SV_E_ARG, host->respond(x, &whole));
        pair.name.ptr = "x-a";
        pair.name.len = 3;
        pair.value = bad_bytes[i];
        IS(SV_E_ARG, host->respond(x, &whole));
        pair.value.ptr = "b";
        pair.value.len = 1;
        whole.body = bad_bytes[i].ptr;
        whole.body_len = bad_bytes[i].len;
        IS(SV_E_ARG, host->respond(x, &whole));
        whole.body = "never";
        whole.body_len = 5;
    }
    IS(0, host->committed(x));
    IS(SV_OK, host->set_buffer_size(x, 8192));
    IS(SV_NONE, host->attribute(x, SV_LIT("a"), &r.s));
}

static void no_text_is_the_empty_text(said *said, sv_exchange *x) {
    results r;
    char buffer[4];
    TEXT(SV_NONE, header(x, NULL, 0, &r.s));
    TEXT(SV_NONE, parameter(x, NULL, 0, 0, &r.s));
    TEXT(SV_NONE, path_parameter(x, NULL, 0, &r.s));
    TEXT(SV_NONE, cookie(x, NULL, 0, &r.s));
    TEXT(SV_NONE, attribute(x, NULL, 0, &r.s));
    TEXT(SV_NONE, response_header(x, NULL, 0, 0, &r.s));
    TEXT(SV_NONE, context_parameter(context_now, NULL, 0, &r.s));
    TEXT(SV_NONE, context_mime_type(context_now, NULL, 0, &r.s));
    TEXT(SV_NONE, context_resource(context_now, NULL, 0, &r.s));
    COUNT(SV_NONE, context_attribute(context_now, NULL, 0, buffer, sizeof buffer, &r.n));
    IS(SV_OK, host->set_header(x, SV_HEADER_SET, SV_LIT("x-empty"), NULL, 0));
    IS(SV_OK, host->response_header(x, SV_LIT("x-empty"), 0, &r.s));
    HOLDS(r.s.ptr != NULL && r.s.len == 0);
    IS(SV_E_ARG, host->set_header(x, SV_HEADER_SET, NULL, 0, SV_LIT("a")));
    IS(SV_E_ARG, host->set_content_type(x, NULL, 0));
    IS(SV_E_ARG, host->set_content_type(x, "", 0));
    IS(SV_OK, host->set_charset(x, NULL, 0));
    IS(SV_E_ARG, host->set_charset(x, "", 0));
    IS(SV_OK, host->encode_url(x, NULL, 0, &r.s));
    HOLDS(r.s.ptr != NULL && r.s.len == 0);
    IS(SV_OK, host->write(x, NULL, 0, NULL));
    IS(SV_OK, host->fail(x, NULL, 0, NULL, 0));
    IS(SV_OK, host->set_attribute(x, SV_LIT("a"), "", 0));
    IS(SV_OK, host->attribute(x, SV_LIT("a"), &r.s));
    HOLDS(r.s.ptr != NULL && r.s.len == 0);
    IS(SV_OK, host->set_attribute(x, SV_LIT("a"), NULL, 0));
    IS(SV_NONE, host->attribute(x, SV_LIT("a"), &r.s));
}

static void header_fields(said *said, sv_exchange *x) {
    static const sv_str bad_names[] = {
        SV_STR(""), SV_STR("a b"), SV_STR("a:"), SV_STR(" a"), SV_STR("a\r\nb"), SV_STR("a\n"), SV_STR("a\0b"),
        SV_STR("a\x7f"), SV_STR("\xc3\xa9"), SV_STR("(a)"), SV_STR("a/b"), SV_STR("a\"b"),
    };
    static const sv_str bad_values[] = {
        SV_STR("a\r\nset-cookie: b"), SV_STR("a\r"), SV_STR("\n"), SV_STR("a\0"), SV_STR("\x1b[31m"), SV_STR("\x7f"),
    };
    static const sv_str of_the_server[] = {
        SV_STR("Connection"), SV_STR("transfer-encoding"), SV_STR("Upgrade"), SV_STR("keep-alive"),
        SV_STR("TRANSFER-ENCODING"),
    };
    static const sv_str bad_lengths[] = {
        SV_STR(""), SV_STR("-1"), SV_STR("+1"), SV_STR("1 "), SV_STR("0x1"), SV_STR("1, 1"), SV_STR("\xff"),
        SV_STR("9223372036854775808"), SV_STR("18446744073709551616"),
    };
    sv_pair pair = { SV_STR("x-a"), SV_STR("b") };
    sv_response whole = answer("never");
    results r;
    size_t i;
    whole.headers = &pair;
    whole.header_count = 1;
    for (i = 0; i < sizeof bad_names / sizeof *bad_names; i++) {
        pair.name = bad_names[i];
        IS(SV_E_ARG, host->set_header(x, SV_HEADER_SET, pair.name.ptr, pair.name.len, SV_LIT("a")));
        IS(SV_E_ARG, host->set_header(x, SV_HEADER_REMOVE, pair.name.ptr, pair.name.len, NULL, 0));
        IS(SV_E_ARG, host->respond(x, &whole));
    }
    for (i = 0; i < sizeof of_the_server / sizeof *of_the_server; i++) {
        pair.name = of_the_server[i];
        IS(SV_E_ARG, host->set_header(x, SV_HEADER_SET, pair.name.ptr, pair.name.len, SV_LIT("close")));
        IS(SV_E_ARG, host->set_header(x, SV_HEADER_ADD, pair.name.ptr, pair.name.len, SV_LIT("close")));
        IS(SV_E_ARG, host->respond(x, &whole));
    }
    pair.name.ptr = "x-a";
    pair.name.len = 3;
    for (i = 0; i < sizeof bad_values / sizeof *bad_values; i++) {
        pair.value = bad_values[i];
        IS(SV_E_ARG, host->set_header(x, SV_HEADER_ADD, SV_LIT("x-a"), pair.value.ptr, pair.value.len));
        IS(SV_E_ARG, host->set_content_type(x, pair.value.ptr, pair.value.len));
        IS(SV_E_ARG, host->set_charset(x, pair.value.ptr, pair.value.len));
        IS(SV_E_ARG, host->redirect(x, 0, pair.value.ptr, pair.value.len));
        IS(SV_E_ARG, host->respond(x, &whole));
    }
    for (i = 0; i < sizeof bad_lengths / sizeof *bad_lengths; i++) {
        IS(SV_E_ARG, host->set_header(x, SV_HEADER_SET, SV_LIT("Content-Length"), bad_lengths[i].ptr,
                                      bad_lengths[i].len));
    }
    IS(SV_E_ARG, host->set_content_length(x, (uint64_t)INT64_MAX + 1));
    IS(SV_E_ARG, host->set_charset(x, SV_LIT("utf-8;a")));
    IS(SV_NONE, host->response_header(x, SV_LIT("x-a"), 0, &r.s));
    IS(SV_NONE, host->response_header(x, SV_LIT("content-length"), 0, &r.s));
    IS(SV_NONE, host->response_header(x, SV_LIT("location"), 0, &r.s));
    /* Allowed: a tab, and bytes above ASCII. */
    IS(SV_OK, host->set_header(x, SV_HEADER_SET, SV_LIT("x-a"), SV_LIT("a\tb \xe9")));
    IS(0, host->committed(x));
}

static void numbers(said *said, sv_exchange *x) {
    static const uint32_t bad_statuses[] = { 0, 99, 100, 101, 199, 600, 65736, UINT32_MAX };
    sv_response whole = answer("never");
    results r;
    char buffer[4];
    size_t i;
    for (i = 0; i < sizeof bad_statuses / sizeof *bad_statuses; i++) {
        IS(SV_E_ARG, host->set_status(x, bad_statuses[i]));
        IS(SV_E_ARG, host->send_error(x, bad_statuses[i], SV_LIT("a")));
        whole.status = bad_statuses[i];
        IS(SV_E_ARG, host->respond(x, &whole));
    }
    IS(SV_E_ARG, host->send_error(x, 399, SV_LIT("a")));
    whole.status = 200;
    whole.body_kind = 3;
    IS(SV_E_ARG, host->respond(x, &whole));
    whole.body_kind = 0;
    whole.header_count = 1;
    IS(SV_E_ARG, host->respond(x, &whole));
    whole.headers = (const sv_pair *)buffer;
    whole.header_count = 1001;
    IS(SV_E_LIMIT, host->respond(x, &whole));
    whole.header_count = SIZE_MAX;
    IS(SV_E_LIMIT, host->respond(x, &whole));
    IS(SV_E_ARG, host->set_header(x, 3, SV_LIT("x-a"), SV_LIT("b")));
    IS(SV_E_ARG, host->set_header(x, -1, SV_LIT("x-a"), SV_LIT("b")));
    IS(SV_E_ARG, host->log_message(context_now, x, 0, SV_LIT("a")));
    IS(SV_E_ARG, host->log_message(context_now, x, 6, SV_LIT("a")));
    IS(0, host->log_enabled(context_now, 0));
    IS(0, host->log_enabled(context_now, INT32_MIN));
    TEXT(SV_E_ARG, context_folder(context_now, 0, &r.s));
    TEXT(SV_E_ARG, context_folder(context_now, 4, &r.s));
    COUNT(SV_E_ARG, read(x, NULL, 1, &r.n));
    COUNT(SV_E_ARG, read(x, buffer, 0, &r.n));
    COUNT(SV_E_ARG, read(x, buffer, SIZE_MAX, &r.n));
    COUNT(SV_E_ARG, context_attribute(context_now, SV_LIT("a"), NULL, 1, &r.n));
    COUNT(SV_E_ARG, context_attribute(context_now, SV_LIT("a"), buffer, SIZE_MAX, &r.n));
    IS(SV_E_ARG, host->set_attribute(x, SV_LIT("servlet.error.status_code"), SV_LIT("1")));
    TEXT(SV_NONE, parameter(x, SV_LIT("a"), UINT32_MAX, &r.s));
    TEXT(SV_NONE, response_header(x, SV_LIT("x-a"), UINT32_MAX, &r.s));
    IS(SV_OK, host->response_status(x, &r.u));
    IS(200, r.u);
    HOLDS(host->extension(NULL) == NULL);
    HOLDS(host->extension("serval.nothing/1") == NULL);
    IS(0, host->committed(x));
}

/* A struct of another version, or of none. */
static void sizes_of_structs(said *said, sv_exchange *x) {
    static const uint32_t bad_sizes[] = { 0, 4, sizeof(sv_response) - 1, 65537, UINT32_MAX };
    sv_response whole = answer("never");
    size_t i;
    IS(SV_E_ARG, host->respond(x, NULL));
    for (i = 0; i < sizeof bad_sizes / sizeof *bad_sizes; i++) {
        whole.struct_size = bad_sizes[i];
        IS(SV_E_ARG, host->respond(x, &whole));
    }
    IS(0, host->committed(x));
}

/* Calls with each place that is none. */
#define BAD_PLACES(type, call)                                                                                         \
    for (i = 0; i < 2; i++) {                                                                                          \
        type *place = i == 0 ? NULL : (type *)(void *)(room + 1);                                                      \
        IS(SV_E_ARG, host->call);                                                                                      \
    }

static void places(said *said, sv_exchange *x) {
    static const char as_before[64] = "nobody writes into a place that is not aligned, not even a zero";
    union { char bytes[64]; sv_str aligned; } memory;
    char *room = memory.bytes, buffer[4];
    int i;
    size_t n;
    const sv_pair *pairs;
    sv_str s;
    memcpy(room, as_before, sizeof as_before);
    BAD_PLACES(sv_str, header(x, SV_LIT("host"), place))
    BAD_PLACES(sv_str, parameter(x, SV_LIT("a"), 0, place))
    BAD_PLACES(const sv_pair *, parameters(x, place, &n))
    BAD_PLACES(size_t, parameters(x, &pairs, place))
    HOLDS(pairs == NULL);
    BAD_PLACES(sv_str, path_parameter(x, SV_LIT("a"), place))
    BAD_PLACES(sv_str, cookie(x, SV_LIT("a"), place))
    BAD_PLACES(const sv_pair *, cookies(x, place, &n))
    BAD_PLACES(size_t, cookies(x, &pairs, place))
    BAD_PLACES(sv_str, attribute(x, SV_LIT("a"), place))
    BAD_PLACES(const sv_pair *, attributes(x, place, &n))
    BAD_PLACES(size_t, attributes(x, &pairs, place))
    BAD_PLACES(sv_str, principal(x, place, &s))
    BAD_PLACES(sv_str, principal(x, &s, place))
    BAD_PLACES(size_t, read(x, buffer, sizeof buffer, place))
    BAD_PLACES(sv_str, read_chunk(x, place))
    BAD_PLACES(sv_str, read_all(x, 10, place))
    BAD_PLACES(sv_str, response_header(x, SV_LIT("a"), 0, place))
    BAD_PLACES(uint32_t, response_status(x, place))
    BAD_PLACES(sv_str, encode_url(x, SV_LIT("a"), place))
    BAD_PLACES(sv_str, error_text(x, place))
    BAD_PLACES(sv_str, context_path(context_now, place))
    BAD_PLACES(sv_str, context_parameter(context_now, SV_LIT("a"), place))
    BAD_PLACES(const sv_pair *, context_parameters(context_now, place, &n))
    BAD_PLACES(size_t, context_parameters(context_now, &pairs, place))
    BAD_PLACES(sv_str, context_folder(context_now, SV_PATH_ROOT, place))
    BAD_PLACES(sv_str, context_mime_type(context_now, SV_LIT("a"), place))
    BAD_PLACES(sv_str, context_resource(context_now, SV_LIT("a"), place))
    BAD_PLACES(size_t, context_attribute(context_now, SV_LIT("a"), buffer, sizeof buffer, place))
    IS(SV_E_ARG, host->write(x, SV_LIT("wrong"), (size_t *)(void *)(room + 1)));
    HOLDS(memcmp(room, as_before, sizeof as_before) == 0);
    /* So nothing was written. */
    IS(SV_OK, host->set_buffer_size(x, 8192));
}

static void owned_bodies_of_errors(said *said, sv_exchange *x) {
    sv_response whole = answer("never");
    sv_pair length = { SV_STR("connection"), SV_STR("close") };
    int released = 0;
    whole.body_kind = SV_BODY_OWNED;
    whole.release = release;
    whole.release_arg = &released;
    whole.status = 1;
    IS(SV_E_ARG, host->respond(x, &whole));
    whole.status = 200;
    whole.headers = &length;
    whole.header_count = 1;
    IS(SV_E_ARG, host->respond(x, &whole));
    whole.headers = NULL;
    IS(SV_E_ARG, host->respond(x, &whole));
    whole.header_count = 0;
    whole.body = NULL;
    IS(SV_E_ARG, host->respond(x, &whole));
    IS(SV_E_ARG, host->write_owned(x, NULL, 1, release, &released));
    IS(0, released);
    IS(SV_OK, host->write_owned(x, SV_LIT("right"), release, &released));
    IS(1, released);
    IS(SV_OK, host->write_owned(x, NULL, 0, release, &released));
    IS(2, released);
    IS(SV_OK, host->write_owned(x, SV_LIT("right"), NULL, NULL));
}

/* ---------------------------------------------------------------------------------------- what there is nothing for */

static void unsupported(said *said, sv_exchange *x) {
    results r;
    NONE(SV_E_UNSUPPORTED, login(x, SV_LIT("a"), SV_LIT("b")));
    NONE(SV_E_ARG, informational(x, 100, NULL, 0));
    NONE(SV_E_ARG, informational(x, 101, NULL, 0));
    NONE(SV_E_ARG, informational(x, 200, NULL, 0));
    NONE(SV_E_ARG, dispatch(x, 0, SV_LIT("/a")));
    NONE(SV_E_ARG, dispatch(x, SV_FORWARD | SV_INCLUDE, SV_LIT("/a")));
    NONE(SV_E_ARG, dispatch(x, SV_BY_NAME, SV_LIT("/a")));
    COUNT(SV_E_STATE, part_count(x, &r.n));
    PLACE(SV_E_STATE, part(x, 0, (const sv_part **)&r.p));
    COUNT(SV_END, read(x, (char *)&r.u, 4, &r.n));
    r = poisoned();
    IS(SV_OK, host->request_trailers(x, &r.pairs, &r.n));
    IS(0, r.n);
    TEXT(SV_NONE, principal(x, &r.s, &r.s2));
    HOLDS(absent(r.s2));
    NONE(SV_NONE, in_role(x, SV_LIT("a")));
    HOLDS(host->tls(x) == NULL);
}

/* Nothing was detached, so there is nothing to complete, be it once or twice; and wakers that are none. */
static void nothing_asynchronous(said *said, sv_exchange *x) {
    IS(SV_E_STATE, host->complete(x, SV_OK));
    IS(SV_E_STATE, host->complete(x, SV_E_FAILED));
    IS(SV_E_STATE, host->async_dispatch(x, NULL, 0));
    IS(SV_E_ARG, host->async_dispatch(x, NULL, 1));
    HOLDS(host->waker_clone((sv_waker *)x) == NULL);
    HOLDS(host->waker_clone((sv_waker *)context_now) == NULL);
    HOLDS(host->waker_clone(NULL) == NULL);
    host->waker_wake(NULL, 1);
    host->waker_wake((sv_waker *)x, 0);
    host->waker_drop(NULL);
    host->waker_drop((sv_waker *)(uintptr_t)1);
    host->waker_drop((sv_waker *)UINTPTR_MAX);
    IS(SV_E_ARG, host->context_timer(context_now, 1, NULL));
    IS(SV_E_STALE, host->context_timer(context_now, 1, (sv_waker *)x));
    IS(SV_E_ARG, host->context_post(context_now, NULL, NULL));
}

static void no_session(said *said, sv_exchange *x) {
    sv_session *session = (sv_session *)x;
    const sv_session_info *info;
    results r;
    TEXT(SV_E_STALE, session_attribute(session, SV_LIT("a"), &r.s));
    PAIRS(SV_E_STALE, session_attributes(session, &r.pairs, &r.n));
    NONE(SV_E_STALE, session_set_attribute(session, SV_LIT("a"), SV_LIT("b")));
    TEXT(SV_E_STALE, session_change_id(session, &r.s));
    NONE(SV_E_STALE, session_set_max_inactive(session, 1));
    NONE(SV_E_STALE, session_invalidate(session));
    NONE(SV_E_ARG, session_invalidate(NULL));
    PLACE(SV_NONE, session(x, 0, (sv_session **)&r.p));
    IS(SV_E_ARG, host->session(x, 0, NULL));
    IS(SV_E_ARG, host->session_info(x, NULL));
    IS(SV_OK, host->session_info(x, &info));
    HOLDS(info != NULL && absent(info->id));
}

/* ---------------------------------------------------------------------------------------- the exchange */

static int text_is(sv_str text, const char *wanted) {
    return text.ptr != NULL && text.len == strlen(wanted) && memcmp(text.ptr, wanted, text.len) == 0;
}

static void error_texts(said *said, sv_exchange *x) {
    static char long_name[100000];
    sv_str text;
    IS(SV_OK, host->error_text(x, &text));
    HOLDS(text.ptr != NULL && text.len == 0);
    IS(SV_E_ARG, host->set_status(x, 99));
    IS(SV_OK, host->error_text(x, &text));
    HOLDS(text_is(text, "a status is 200 to 599"));
    IS(SV_E_ARG, host->header(x, NULL, 1, &text));
    IS(SV_OK, host->set_status(x, 200));
    IS(SV_OK, host->error_text(x, &text));
    HOLDS(text_is(text, "a pointer is NULL and its length is not 0"));
    /* Of another handle: not this one's. */
    IS(SV_E_ARG, host->set_status(NULL, 99));
    IS(SV_OK, host->error_text(x, &text));
    HOLDS(text_is(text, "a pointer is NULL and its length is not 0"));
    /* What is quoted is short, and one line. */
    memset(long_name, '\n', sizeof long_name);
    IS(SV_E_ARG, host->set_header(x, SV_HEADER_SET, long_name, sizeof long_name, SV_LIT("a")));
    IS(SV_OK, host->error_text(x, &text));
    HOLDS(text.len < 300 && memchr(text.ptr, '\n', text.len) == NULL);
    IS(SV_E_ARG, host->set_charset(x, long_name, sizeof long_name));
    IS(SV_OK, host->error_text(x, &text));
    HOLDS(text.len < 300 && memchr(text.ptr, '\n', text.len) == NULL);
}

static void memory(said *said, sv_exchange *x) {
    static const size_t bad_aligns[] = { 0, 3, 12, 4095, SIZE_MAX, SIZE_MAX - 1 };
    size_t i, taken = 0, align;
    sv_str text;
    for (i = 0; i < sizeof bad_aligns / sizeof *bad_aligns; i++) HOLDS(host->alloc(x, 8, bad_aligns[i]) == NULL);
    HOLDS(host->alloc(x, SIZE_MAX, 1) == NULL);
    HOLDS(host->alloc(x, SIZE_MAX / 2, 8) == NULL);
    HOLDS(host->alloc(x, (size_t)1 << 40, 1) == NULL);
    HOLDS(host->alloc(x, 1, (size_t)1 << 63) == NULL);
    HOLDS(host->alloc(x, 1, (size_t)1 << 40) == NULL);
    HOLDS(host->alloc(x, (64u << 20) + 1, 1) == NULL);
    HOLDS(host->alloc(x, 0, 1) != NULL);
    for (align = 1; align <= 65536; align *= 2) {
        char *given = host->alloc(x, 3, align);
        HOLDS(given != NULL && (uintptr_t)given % align == 0);
        if (given != NULL) memset(given, 1, 3);
    }
    for (;;) {
        char *given = host->alloc(x, 1 << 20, 8);
        if (given == NULL) break;
        memset(given, 1, 1 << 20);
        if (++taken > 64) break;
    }
    HOLDS(taken >= 32 && taken <= 64);
    IS(SV_OK, host->error_text(x, &text));
    HOLDS(text_is(text, "the memory of this dispatch (64 MiB) is used up"));
}

/* The last one on its exchange: nothing is left to answer with. */
static void memory_that_is_used_up(said *said, sv_exchange *x) {
    results r;
    size_t size;
    IS(SV_OK, host->set_attribute(x, SV_LIT("a"), SV_LIT("some bytes")));
    for (size = 32 << 20; size > 0; size /= 2) {
        while (host->alloc(x, size, 1) != NULL) {}
    }
    TEXT(SV_E_NOMEM, attribute(x, SV_LIT("a"), &r.s));
    PAIRS(SV_E_NOMEM, attributes(x, &r.pairs, &r.n));
    TEXT(SV_E_NOMEM, encode_url(x, SV_LIT("/a"), &r.s));
    IS(SV_OK, host->header(x, SV_LIT("host"), &r.s));
}

static void attributes_keep_their_value(said *said, sv_exchange *x) {
    static char large[(1 << 20) + 1];
    sv_str text;
    IS(SV_OK, host->set_attribute(x, SV_LIT("a"), SV_LIT("old")));
    IS(SV_E_LIMIT, host->set_attribute(x, SV_LIT("a"), large, sizeof large));
    IS(SV_OK, host->attribute(x, SV_LIT("a"), &text));
    HOLDS(text_is(text, "old"));
}

/* ---------------------------------------------------------------------------------------- with a real container only */

static void context_attributes_keep_their_value(said *said, sv_exchange *x) {
    static char large[(16 << 20) + 1];
    char buffer[4] = "???";
    size_t len;
    (void)x;
    IS(SV_OK, host->context_set_attribute(context_now, SV_LIT("a"), SV_LIT("old")));
    IS(SV_E_LIMIT, host->context_set_attribute(context_now, SV_LIT("a"), large, sizeof large));
    IS(SV_OK, host->context_attribute(context_now, SV_LIT("a"), buffer, 2, &len));
    HOLDS(len == 3 && memcmp(buffer, "ol?", 3) == 0);
    IS(SV_OK, host->context_attribute(context_now, SV_LIT("a"), NULL, 0, &len));
    IS(3, len);
    IS(SV_OK, host->context_set_attribute(context_now, SV_LIT("a"), NULL, 0));
    IS(SV_NONE, host->context_attribute(context_now, SV_LIT("a"), NULL, 0, &len));
}

/* Whatever changes the head is refused, and has changed nothing. */
static void head_is_fixed(said *said, sv_exchange *x, const char *content_type) {
    results r;
    IS(SV_E_STATE, host->set_status(x, 201));
    IS(SV_E_STATE, host->set_header(x, SV_HEADER_SET, SV_LIT("x-late"), SV_LIT("1")));
    IS(SV_E_STATE, host->set_header(x, SV_HEADER_REMOVE, SV_LIT("content-type"), NULL, 0));
    IS(SV_E_STATE, host->set_content_type(x, SV_LIT("text/late")));
    IS(SV_E_STATE, host->set_charset(x, SV_LIT("late")));
    IS(SV_E_STATE, host->set_content_length(x, 1));
    IS(SV_E_STATE, host->set_buffer_size(x, 100));
    IS(SV_E_STATE, host->reset(x));
    IS(SV_E_STATE, host->reset_buffer(x));
    IS(SV_NONE, host->response_header(x, SV_LIT("x-late"), 0, &r.s));
    IS(SV_OK, host->response_status(x, &r.u));
    IS(200, r.u);
    IS(1, host->committed(x));
    if (content_type != NULL) {
        IS(SV_OK, host->response_header(x, SV_LIT("content-type"), 0, &r.s));
        HOLDS(text_is(r.s, content_type));
    }
}

static void is_finished(said *said, sv_exchange *x) {
    sv_response whole = answer("twice");
    int released = 0;
    results r;
    whole.body_kind = SV_BODY_OWNED;
    whole.release = release;
    whole.release_arg = &released;
    IS(SV_E_STATE, host->respond(x, &whole));
    IS(SV_E_STATE, host->send_error(x, 418, SV_LIT("twice")));
    IS(SV_E_STATE, host->redirect(x, 0, SV_LIT("/twice")));
    COUNT(SV_E_STATE, write(x, SV_LIT("twice"), &r.n));
    NONE(SV_E_STATE, write_owned(x, SV_LIT("twice"), release, &released));
    IS(SV_E_STATE, host->flush(x));
    IS(SV_E_STATE, host->set_status(x, 201));
    IS(SV_E_STATE, host->reset(x));
    IS(SV_E_STATE, host->reset_buffer(x));
    IS(0, released);
}

static void after_commit(said *said, sv_exchange *x) {
    sv_response whole = answer("never");
    IS(SV_OK, host->set_content_type(x, SV_LIT("text/plain")));
    IS(SV_OK, host->write(x, SV_LIT("whole"), NULL));
    IS(SV_OK, host->flush(x));
    head_is_fixed(said, x, "text/plain");
    IS(SV_E_STATE, host->respond(x, &whole));
    IS(SV_E_STATE, host->send_error(x, 500, SV_LIT("late")));
    IS(SV_E_STATE, host->redirect(x, 0, SV_LIT("/late")));
    IS(SV_OK, host->write(x, SV_LIT(" answer"), NULL));
}

static void after_respond(said *said, sv_exchange *x) {
    sv_response whole = answer("whole answer");
    IS(SV_OK, host->respond(x, &whole));
    head_is_fixed(said, x, NULL);
    is_finished(said, x);
}

static void after_send_error(said *said, sv_exchange *x) {
    IS(SV_OK, host->write(x, SV_LIT("dropped"), NULL));
    IS(SV_OK, host->send_error(x, 410, SV_LIT("gone\r\nX-Forged: 1")));
    IS(0, host->committed(x));
    is_finished(said, x);
    /* "until then headers may still be set" */
    IS(SV_OK, host->set_header(x, SV_HEADER_SET, SV_LIT("x-of-the-error"), SV_LIT("1")));
    IS(SV_OK, host->set_content_length(x, 3));
}

static void after_redirect(said *said, sv_exchange *x) {
    IS(SV_OK, host->write(x, SV_LIT("dropped"), NULL));
    IS(SV_OK, host->redirect(x, 0, SV_LIT("/elsewhere")));
    is_finished(said, x);
}

/* At the limit a header can still be replaced, and what is refused has changed nothing. */
static void thousand_headers(said *said, sv_exchange *x) {
    char name[16];
    int i;
    results r;
    IS(SV_OK, host->set_content_type(x, SV_LIT("text/plain")));
    IS(SV_OK, host->set_charset(x, SV_LIT("utf-8")));
    for (i = 0; i < 999; i++) {
        sprintf(name, "x-%d", i);
        IS(SV_OK, host->set_header(x, SV_HEADER_ADD, name, strlen(name), SV_LIT("1")));
    }
    IS(SV_E_LIMIT, host->set_header(x, SV_HEADER_ADD, SV_LIT("x-1"), SV_LIT("2")));
    IS(SV_E_LIMIT, host->set_header(x, SV_HEADER_SET, SV_LIT("x-1000"), SV_LIT("1")));
    IS(SV_E_LIMIT, host->set_content_length(x, 3));
    IS(SV_NONE, host->response_header(x, SV_LIT("content-length"), 0, &r.s));
    IS(SV_OK, host->set_header(x, SV_HEADER_SET, SV_LIT("x-1"), SV_LIT("2")));
    IS(SV_OK, host->set_content_type(x, SV_LIT("text/html")));
    IS(SV_OK, host->set_header(x, SV_HEADER_REMOVE, SV_LIT("x-2"), NULL, 0));
    IS(SV_OK, host->set_header(x, SV_HEADER_ADD, SV_LIT("x-1"), SV_LIT("3")));
    /* A client takes no thousand headers. */
    IS(SV_OK, host->reset(x));
    IS(SV_OK, host->write(x, SV_LIT("whole answer"), NULL));
}

/* ---------------------------------------------------------------------------------------- release */

static sv_exchange *owner;
static int in_release[4];

static void calling_release(void *arg) {
    sv_str text;
    in_release[0] = host->set_status(owner, 201);
    in_release[1] = host->write(owner, SV_LIT("again"), NULL);
    in_release[2] = host->respond(owner, NULL);
    in_release[3] = host->context_path(context_now, &text);
    release(arg);
}

/* Calls of the host out of the function that it calls, inside write_owned. */
static void release_that_calls(said *said, sv_exchange *x) {
    int i, released = 0;
    owner = x;
    IS(SV_OK, host->write_owned(x, SV_LIT("whole answer"), calling_release, &released));
    IS(1, released);
    for (i = 0; i < 3; i++) IS(SV_E_STATE, in_release[i]);
    IS(SV_OK, in_release[3]);
    IS(0, host->committed(x));
}

/* ---------------------------------------------------------------------------------------- the library */

static const struct check {
    const char *name;
    void (*run)(said *, sv_exchange *);
} checks[] = {
#define CHECK(name) { #name, name }
    CHECK(null_handles), CHECK(made_up_handles), CHECK(handles_of_another_kind), CHECK(another_thread),
    CHECK(keep_the_handle), CHECK(ended_handle), CHECK(ended_context), CHECK(texts), CHECK(no_text_is_the_empty_text),
    CHECK(header_fields), CHECK(numbers), CHECK(sizes_of_structs), CHECK(places), CHECK(owned_bodies_of_errors),
    CHECK(unsupported), CHECK(nothing_asynchronous), CHECK(no_session), CHECK(error_texts), CHECK(memory), CHECK(memory_that_is_used_up),
    CHECK(attributes_keep_their_value), CHECK(context_attributes_keep_their_value), CHECK(after_commit),
    CHECK(after_respond), CHECK(after_send_error), CHECK(after_redirect), CHECK(thousand_headers),
    CHECK(release_that_calls), CHECK(hammer_begins), CHECK(is_hammered), CHECK(hammer_ends),
};

static int dropped;

static sv_status poll(void *task, sv_exchange *x) {
    (void)task;
    (void)x;
    return SV_E_FAILED;
}

static void drop(void *task) {
    (void)task;
    __atomic_add_fetch(&dropped, 1, __ATOMIC_SEQ_CST);
}

static sv_status service(void *servlet, sv_exchange *x, void **task) {
    static char a_task;
    char name[100];
    const sv_request *request = host->request(x);
    size_t i;
    (void)servlet;
    if (request == NULL || request->path_info.len < 1 || request->path_info.len > sizeof name) return SV_E_ARG;
    memcpy(name, request->path_info.ptr + 1, request->path_info.len - 1);
    name[request->path_info.len - 1] = 0;
    if (strcmp(name, "pending") == 0) return SV_PENDING;
    if (strcmp(name, "pending_task") == 0 || strcmp(name, "lost_task") == 0) {
        *task = &a_task;
        return strcmp(name, "lost_task") == 0 ? SV_OK : SV_PENDING;
    }
    if (strcmp(name, "dropped") == 0) return dropped == 1 ? SV_OK : SV_E_FAILED;
    if (strcmp(name, "unknown_status") == 0) return 4711;
    for (i = 0; i < sizeof checks / sizeof *checks; i++) {
        if (strcmp(name, checks[i].name) == 0) {
            said said;
            said.len = 0;
            checks[i].run(&said, x);
            if (said.len == 0) return SV_OK;
            host->fail(x, SV_LIT("check"), said.text, said.len);
            return SV_E_FAILED;
        }
    }
    return SV_NEXT;
}

static sv_status init(const sv_host *table, sv_context *context, void **module, sv_str *error) {
    (void)module;
    (void)error;
    host = table;
    context_before = context_now;
    context_now = context;
    return SV_OK;
}

static const sv_str patterns[] = { SV_STR("/*") };
static const sv_servlet misuse = {
    sizeof(sv_servlet), 0, 0, 0, SV_STR("misuse"), patterns, 1, NULL, 0, -1, 0, NULL, NULL, service, poll, drop, NULL,
};
static const sv_servlet *const servlets[] = { &misuse };
static const sv_module module = {
    SV_MAGIC, sizeof(sv_module), SV_ABI_MAJOR, SV_ABI_MINOR, 0, 0, 0, 0, SV_STR("misuse"), SV_STR("1"), SV_STR("C"),
    init, NULL, NULL, NULL, servlets, 1, NULL, 0, NULL, 0, NULL,
};

SV_EXPORT const sv_module *servlet_module_v1(void) { return &module; }
