/* Servlets that promise not to block, and then wait for their clients; and one that blocks. */
#include <servlet.h>

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const sv_host *host;

static sv_status init(const sv_host *table, sv_context *context, void **module, sv_str *error) {
    (void)context;
    (void)error;
    *module = NULL;
    host = table;
    return SV_OK;
}

static sv_status text(sv_exchange *exchange, const char *body) {
    sv_response response;
    memset(&response, 0, sizeof response);
    response.struct_size = sizeof response;
    response.status = 200;
    response.body = body;
    response.body_len = strlen(body);
    return host->respond(exchange, &response);
}

static sv_status hello(void *servlet, sv_exchange *exchange, void **task) {
    (void)servlet;
    (void)task;
    return text(exchange, "hello");
}

/* Answers the length of the request's body. */
static sv_status length(void *servlet, sv_exchange *exchange, void **task) {
    unsigned long length = 0;
    char line[32];
    sv_str chunk;
    sv_status status;
    (void)servlet;
    (void)task;
    while ((status = host->read_chunk(exchange, &chunk)) == SV_OK) {
        length += chunk.len;
    }
    if (status != SV_END) {
        return status;
    }
    sprintf(line, "%lu", length);
    return text(exchange, line);
}

/* Writes 10 MiB, byte n of which is n % 251. */
static sv_status large(void *servlet, sv_exchange *exchange, void **task) {
    unsigned long written = 0;
    char piece[10000];
    (void)servlet;
    (void)task;
    while (written < 10485760) {
        size_t len = 0, taken;
        sv_status status;
        while (len < sizeof piece && written + len < 10485760) {
            piece[len] = (char)((written + len) % 251);
            len++;
        }
        status = host->write(exchange, piece, len, &taken);
        if (status != SV_OK) {
            return status;
        }
        written += taken;
    }
    return SV_OK;
}

/* The path that is the query. */
static sv_status path_of(sv_exchange *exchange, char path[4096]) {
    const sv_request *request = host->request(exchange);
    if (!request || request->query.len >= 4096) {
        return SV_E_ARG;
    }
    memcpy(path, request->query.ptr, request->query.len);
    path[request->query.len] = 0;
    return SV_OK;
}

/* Returns when the file that the query names is there; the other one promises that it does not block. */
static sv_status until(void *servlet, sv_exchange *exchange, void **task) {
    char path[4096];
    sv_status status = path_of(exchange, path);
    (void)servlet;
    (void)task;
    if (status != SV_OK) {
        return status;
    }
    while (access(path, F_OK) != 0) {
        usleep(1000);
    }
    return text(exchange, "done");
}

static sv_status liar(void *servlet, sv_exchange *exchange, void **task) {
    return until(servlet, exchange, task);
}

__attribute__((noinline)) static int waits_for_the_bank(int pipe) {
    struct pollfd bank = { pipe, POLLIN, 0 };
    return poll(&bank, 1, -1);
}

/* Waits in one system call, which no signal handler would leave alone, until something is written into the pipe that it makes. */
static sv_status bank(void *servlet, sv_exchange *exchange, void **task) {
    char path[4096];
    sv_status status = path_of(exchange, path);
    int pipe, ready;
    (void)servlet;
    (void)task;
    if (status != SV_OK || mkfifo(path, 0600) != 0 || (pipe = open(path, O_RDWR)) < 0) {
        return SV_E_ARG;
    }
    ready = waits_for_the_bank(pipe);
    close(pipe);
    return text(exchange, ready == 1 ? "paid" : "interrupted");
}

/* Answers 8,000 bytes, all of which are sent before it returns; it leaves the request's body alone. */
static sv_status flushed(void *servlet, sv_exchange *exchange, void **task) {
    static const char bytes[8000];
    sv_status status;
    (void)servlet;
    (void)task;
    if ((status = host->set_content_length(exchange, sizeof bytes)) != SV_OK) return status;
    if ((status = host->write(exchange, bytes, sizeof bytes, NULL)) != SV_OK) return status;
    return host->flush(exchange);
}

#define SERVLET(name, pattern, promise)                                                                                \
    static const sv_str name##_patterns[] = { SV_STR(pattern) };                                                       \
    static const sv_servlet name##_servlet = {                                                                         \
        sizeof(sv_servlet), promise, 0, 0, SV_STR(#name), name##_patterns, 1, NULL, 0, -1, 0,                          \
        NULL, NULL, name, NULL, NULL, NULL,                                                                            \
    }
SERVLET(hello, "/hello", SV_NONBLOCKING);
SERVLET(length, "/length", SV_NONBLOCKING);
SERVLET(large, "/large", SV_NONBLOCKING);
SERVLET(until, "/until", SV_BLOCKING);
SERVLET(liar, "/liar", SV_NONBLOCKING);
SERVLET(flushed, "/flushed", SV_NONBLOCKING);
SERVLET(bank, "/bank", SV_BLOCKING);

static const sv_servlet *const servlets[] = { &hello_servlet, &length_servlet, &large_servlet, &until_servlet, &liar_servlet, &flushed_servlet, &bank_servlet };
static const sv_module module = {
    SV_MAGIC, sizeof(sv_module), SV_ABI_MAJOR, SV_ABI_MINOR, 0, 0, 0, 0,
    SV_STR("waiting"), SV_STR("1"), SV_STR("C"),
    init, NULL, NULL, NULL,
    servlets, 7, NULL, 0, NULL, 0, NULL,
};

SV_EXPORT const sv_module *servlet_module_v1(void) { return &module; }
